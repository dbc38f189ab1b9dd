"""Header sources: one trusted proxy's fields, read by its row of the table.

Must never know: other proxies' fields, or what to fall back to. What is configured is read, all else is dropped.
"""

import logging
from collections.abc import Callable, Collection, Sequence
from typing import Literal, TypeVar

from mtls_middleware.cache import Cache
from mtls_middleware.certificate import ClientCertificate, Verification
from mtls_middleware.errors import ConfigurationError, MalformedCertificate, Refused, require_extra
from mtls_middleware.request import Peer, RequestView
from mtls_middleware.sources import rfc9440, server
from mtls_middleware.sources.encoding import MAX_FIELD
from mtls_middleware.sources.trust import ProxyCertificateRule, SharedSecret, Trust
from mtls_middleware.sources.vendors import Dialect, Verdict
from mtls_middleware.validity import require_valid

logger: logging.Logger = logging.getLogger("mtls_middleware.sources")

T = TypeVar("T")

# Characters of the cached values, some thousand certificates, and of the largest of them.
_CACHED, _LARGEST = 8 * 1024 * 1024, 16_384

_NEEDS_STRUCTURED_FIELDS = (rfc9440.client_cert_chain,)


class HeaderSource:
    """A proxy that ends TLS and says in header fields whose certificate it saw. Use one of its subclasses.

    Keywords (`AWSLoadBalancer` and `Envoy` leave out those that make no sense there):
        trusted_proxies: networks and addresses such as `"10.0.0.0/8"`, and `"unix"`: who may speak for clients.
        shared_secret: `(header, value)` that the proxy adds to each request; 16 characters or more. `(header, [new,
            old])` accepts each of these values, so that the operator can change the secret without an outage.
        proxy_certificate: a rule of `mtls_middleware.policy` over the proxy's own certificate, presented to us.
            Each kind of trust given must hold, and one must be given: there is no default.
        certificate_header, chain_header, verify_header: the fields' names where they differ from the default.
            `verify_header=False`: no word is read, although this proxy has one.
        verified_by_proxy: the proxy sends no such word and lets only verified certificates through. Otherwise a
            certificate without a word is `PRESENTED`.
        proxy_deletes_underscores: the operator's statement that the proxy deletes every name with an underscore or
            another odd character. Without it, a source that reads a name with a hyphen rejects every request under a
            WSGI server that folds names, or that is unknown. Names without hyphens, such as `MtlsClientCert`, need it
            under no server.

    Raises `ConfigurationError` at construction. Source of the rules: RFC 9440 2 and 4, RFC 8705 6.5.
    """

    dialect: Dialect
    is_reusable: bool

    # Names, in lower case, of fields that only this product has.
    _further_headers: tuple[str, ...] = ()

    def __init__(
        self,
        *,
        trusted_proxies: Collection[str] = (),
        shared_secret: SharedSecret | None = None,
        proxy_certificate: ProxyCertificateRule | None = None,
        certificate_header: str | None = None,
        chain_header: str | None = None,
        verify_header: str | Literal[False] | None = None,
        verified_by_proxy: bool = False,
        proxy_deletes_underscores: bool = False,
    ) -> None:
        dialect = self.dialect
        if dialect.chain in _NEEDS_STRUCTURED_FIELDS:
            require_extra("http_sf", "rfc9440", type(self).__name__)
        self._trust = Trust(trusted_proxies, shared_secret, proxy_certificate)
        self._certificate_header = _field_name(given(certificate_header, dialect.certificate_header))
        self._chain_header = _optional_field_name(given(chain_header, dialect.chain_header))
        if self._chain_header is not None and dialect.chain is None:
            raise ConfigurationError(f"chain_header={chain_header!r}: {dialect.name} has no field for the chain")
        wanted = dialect.verify_header if verify_header is None and not verified_by_proxy else verify_header
        self._verify_header = _optional_field_name(None if wanted is False else wanted)
        if not isinstance(verified_by_proxy, bool):  # the text "false" is true
            raise ConfigurationError(f"verified_by_proxy={verified_by_proxy!r}: True or False")
        if verified_by_proxy and (self._verify_header or not dialect.may_verify):
            raise ConfigurationError(
                f"verified_by_proxy=True: {dialect.name} "
                + ("has a verification word to read instead" if self._verify_header else "never verifies certificates")
            )
        if not isinstance(proxy_deletes_underscores, bool):
            raise ConfigurationError(f"proxy_deletes_underscores={proxy_deletes_underscores!r}: expected True or False")
        self._reads_hyphens = not proxy_deletes_underscores and any(map(_is_foldable, self._names()))
        self._unworded = Verification.BY_PROXY if verified_by_proxy else Verification.PRESENTED
        self._warned: set[str] = set()  # one string for each server and each way to rewrite an address
        self._certificates: Cache[tuple[str, str | None, str], ClientCertificate] = Cache(_CACHED, largest=_LARGEST)

    def __init_subclass__(cls) -> None:
        """Declare the classes of this package reusable: they read only the fields that the constructor names."""
        cls.is_reusable = cls.__module__ == "mtls_middleware.sources.products"

    @property
    def reads_peer(self) -> bool:
        """Whether the certificate depends on the peer: on its address, and on whether its server folds names."""
        return True

    @property
    def reads_tls(self) -> bool:
        """Whether the certificate depends on the certificate that the proxy itself presents."""
        return self._trust.has_proxy_rule

    @property
    def can_verify(self) -> bool:
        """Whether this source can ever give a certificate that is stronger than `PRESENTED`."""
        return self._verify_header is not None or self._unworded is Verification.BY_PROXY

    @property
    def drop_headers(self) -> frozenset[str]:
        """Field names, lower case, to remove from every request beside those that are known anyway."""
        return self._names()

    def _names(self) -> frozenset[str]:
        own = (self._certificate_header, self._chain_header, self._verify_header, self._trust.secret_header)
        return frozenset(name for name in (*own, *self._further_headers) if name is not None)

    @property
    def has_secret(self) -> bool:
        """Whether the proxy must add a shared secret."""
        return self._trust.secret_header is not None

    @property
    def trusts_address_alone(self) -> bool:
        """Whether the address of the peer is all that this source trusts."""
        return self._trust.trusts_address_alone

    @property
    def needs_address(self) -> bool:
        """Whether the peer's address must be among `trusted_proxies`."""
        return self._trust.needs_address

    @property
    def reads_hyphens(self) -> bool:
        """Whether this source reads a name that another name can fold into, unless the proxy deletes such names."""
        return self._reads_hyphens

    @property
    def vary(self) -> str:
        """The field that selects the response (RFC 9440 2.4)."""
        return self._certificate_header

    def find(self, view: RequestView) -> ClientCertificate | None:
        """The certificate in this request's fields, `None` where there is none or the peer is not trusted.

        Raises `MalformedCertificate` if the fields of a trusted peer contradict each other, and `ConfigurationError`
        if this server may fold other names into a name with a hyphen, and `proxy_deletes_underscores` is not given.
        """
        doubt = self._doubt(view.peer)
        if doubt is None and not self._trust.is_of_peers:
            doubt = self._trust.doubt_request(view)
        values = view.headers(self._certificate_header)
        if doubt is not None:
            if values:
                logger.info("the client certificate header is ignored: %s", doubt)
            return None
        value = values[0] if len(values) == 1 else only(values, self._certificate_header)
        word, chain = None, ""
        if self._verify_header is not None:
            words = view.headers(self._verify_header)
            word = words[0] if len(words) == 1 else only(words, "verification word")
        if self._chain_header is not None:
            chain = ", ".join(view.headers(self._chain_header))  # several lines are one list (RFC 9440 2.3)
        if value is None:
            return self._judge(None, word, chain)
        key = (value, word, chain)
        certificate = self._certificates.get(key)
        if certificate is None:
            certificate = self._judge(value, word, chain)
            if certificate is not None:
                self._certificates.put(key, certificate, len(value) + len(word or "") + len(chain))
        return certificate

    @property
    def has_proxy_certificate(self) -> bool:
        """Whether the proxy must present a certificate of its own."""
        return self._trust.has_proxy_rule

    def trusts_proxy_now(self, view: RequestView, clock_skew: float) -> bool:
        """Whether the proxy's own certificate is within its validity period; logged if not.

        `find` has already compared it with the rule.
        """
        presented = server.read(view.tls)
        try:
            if presented is not None:
                require_valid(presented, view.now, clock_skew)
        except Refused as refusal:
            reason = "; ".join(refusal.evidence)
            logger.info("the client certificate header is ignored: the proxy's own certificate %s", reason)
            return False
        return presented is not None

    def proxy_recheck(self, view: RequestView, clock_skew: float | None) -> Callable[[float], None] | None:
        """Decide again, at a time, about the proxy's own certificate, for an open websocket. `None` without one.

        `clock_skew`: `None` if its validity period is not checked. What is returned raises `Refused`.
        """
        try:
            presented = server.read(view.tls) if self.has_proxy_certificate else None
        except MalformedCertificate:  # `find` has ignored the header
            presented = None
        if presented is None:
            return None

        def again(now: float) -> None:
            try:
                if clock_skew is not None:
                    require_valid(presented, now, clock_skew)
            except Refused as refusal:
                raise Refused(refusal.code, "the proxy's own certificate", *refusal.evidence) from None
            if not self._trust.accepts_proxy(presented):
                raise Refused("client_certificate_refused", "the proxy's own certificate is not the one expected")

        return again

    def _doubt(self, peer: Peer) -> str | None:
        """Why this peer is not trusted; a header that may have written its address is logged once."""
        if peer.spoofable is not None and self._reads_hyphens:
            raise ConfigurationError(peer.spoofable)
        doubt = self._trust.doubt_peer(peer)
        if doubt is not None and doubt == peer.doubt and doubt not in self._warned:
            self._warned.add(doubt)
            logger.warning("%s", doubt)
        return doubt

    def _judge(self, value: str | None, word: str | None, chain_value: str) -> ClientCertificate | None:
        """Certificate and verification word must tell the same story."""
        dialect = self.dialect
        verdict = None
        if word is not None and word not in ("", "(null)"):
            verdict = dialect.verdict(word)
            if verdict is None:
                raise MalformedCertificate("unknown verification word")
        if value is None or value in dialect.nothing:
            harmless = verdict in (None, Verdict.NONE) or word in dialect.success_without_certificate
            if not harmless and not (verdict is Verdict.FAILED and dialect.false_without_certificate):
                raise MalformedCertificate("a verification word that speaks of a certificate, and no certificate")
            return None  # a chain without a leaf identifies no client
        if self._verify_header is None:
            verification = self._unworded
        elif verdict in (None, Verdict.NONE):
            raise MalformedCertificate("a certificate without its verification word, or beside the word for none")
        else:
            verification = Verification.BY_PROXY if verdict is Verdict.SUCCESS else Verification.PRESENTED
        size = len(value) + len(chain_value)
        if size > MAX_FIELD:  # before any decoding
            raise MalformedCertificate(f"certificate fields of {size} characters, {MAX_FIELD} are read")
        certificate = self._read(value, chain_value, verification)
        if certificate is None and verdict is Verdict.SUCCESS:
            raise MalformedCertificate("the word of success, and a field that carries no certificate")
        return certificate

    def _read(self, value: str, chain_value: str, verification: Verification) -> ClientCertificate | None:
        leaf, *chain = self.dialect.leaf(value)
        return self._certificate(leaf, tuple(chain), chain_value, verification)

    def _certificate(
        self, leaf: bytes, chain: tuple[bytes, ...], chain_value: str, verification: Verification
    ) -> ClientCertificate:
        read_chain = self.dialect.chain
        if chain_value and read_chain is not None:
            chain = read_chain(chain_value)
        if leaf in chain:
            raise MalformedCertificate("the chain repeats the leaf")
        return ClientCertificate.from_der(leaf, chain=chain, verification=verification)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(certificate_header={self._certificate_header!r})"


def only(values: Sequence[str], what: str) -> str | None:
    if len(values) > 1:  # first, last and joined all differ from hop to hop
        raise MalformedCertificate(f"{what}: {len(values)} field lines")
    return values[0] if values else None


def given(name: str | None, default: T) -> str | T:
    return default if name is None else name  # an empty text, say of an unset variable, is no wish for the default


def _field_name(name: str) -> str:
    if not (isinstance(name, str) and name.isascii() and name.replace("-", "").isalnum()):
        raise ConfigurationError(
            f"{name!r} is no header name for a certificate: letters, digits and dashes, for example 'X-SSL-Client-Cert'"
        )
    return name.lower()


def _is_foldable(name: str) -> bool:
    """Whether some server can fold another name into this one.

    An underscore becomes a hyphen (RFC 3875 4.1.18). The latin-1 letter sharp s becomes SS in Python's `str.upper`.
    """
    return "-" in name or "ss" in name


def _optional_field_name(name: str | None) -> str | None:
    return None if name is None else _field_name(name)
