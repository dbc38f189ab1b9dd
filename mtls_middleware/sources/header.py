"""`HeaderSource`: reads the client certificate from the header fields of a trusted proxy.

The source reads only the configured fields, and never falls back to other fields.
"""

import logging
from collections.abc import Callable, Collection
from typing import Any, Literal

from mtls_middleware import options
from mtls_middleware.cache import Cache
from mtls_middleware.certificate import ClientCertificate, Verification
from mtls_middleware.certificate_memory import extra_bytes
from mtls_middleware.errors import ConfigurationError, MalformedCertificate, Refused, require_extra
from mtls_middleware.line_limit import LineLimit
from mtls_middleware.request import Peer, RequestView
from mtls_middleware.sources import forms, leaf_and_chain, rfc9440, server
from mtls_middleware.sources.encoding import MAX_FIELD
from mtls_middleware.sources.fields import field_name, is_foldable, name_or_default, optional_field_name, single_value
from mtls_middleware.sources.source import Absence
from mtls_middleware.sources.trust import ProxyCertificateRule, SharedSecret, Trust
from mtls_middleware.sources.vendors import Dialect, Verdict
from mtls_middleware.validity import require_valid

logger: logging.Logger = logging.getLogger("mtls_middleware.sources")

# Maximum characters of all cached field values (a few thousand certificates), and of those of one certificate.
_CACHE_SIZE, _MAX_CACHED = 8 * 1024 * 1024, 16_384
# Bytes that a cached certificate of usual size needs in memory in addition to its field values.
_OBJECTS = 2_000

_lines = LineLimit()
_NEEDS_STRUCTURED_FIELDS = (rfc9440.client_cert_chain,)
_FIELDS_ADVICE = (
    "let the proxy set both fields on every request, and check that certificate_header= and verify_header= are their "
    "names in its configuration"
)


def _log_ignored(reason: str, now: float) -> None:
    _lines.log(logger, logging.INFO, now, "the client certificate header is ignored: %s", reason)


class HeaderSource:
    """Reads the client certificate that a TLS-terminating proxy sends in header fields. Use one of its subclasses.

    Give at least one of `trusted_proxies`, `shared_secret` and `proxy_certificate`. If you give several, a request must
    satisfy all of them. `AWSLoadBalancer` and `Envoy` accept only some of these arguments.

    Arguments:
        trusted_proxies: a list of addresses and networks of the proxy, for example `"10.0.0.0/8"`, or `"unix"` for a
            unix socket.
        shared_secret: `(header, value)`, a field that the proxy adds to each request. The value has 16 characters or
            more. `(header, [new, old])` accepts both values, so that the operator can change the secret without an
            outage.
        proxy_certificate: a rule of `mtls_middleware.policy` for the client certificate of the proxy itself.
        certificate_header, chain_header, verify_header: the names of the fields, if they differ from the defaults. The
            field `verify_header` contains the verification word, for example `SUCCESS`. With `verify_header=False`, no
            verification word is read.
        verified_by_proxy: `True` if the proxy sends no verification word and forwards only verified certificates. By
            default, a certificate without a verification word is `PRESENTED`.
        proxy_deletes_underscores: `True` if the proxy deletes every field whose name contains a character other than a
            letter, a digit or a hyphen. By default, a source that reads a name with a hyphen rejects every request
            under a WSGI server that folds names or is unknown. Names without hyphens, such as `MtlsClientCert`, do not
            need this argument.

    Raises `ConfigurationError` at construction. Standards: RFC 9440 sections 2 and 4, RFC 8705 section 6.5.
    Example of a subclass: `Nginx(trusted_proxies=["10.0.0.0/8"], shared_secret=("MtlsProxySecret", secret))`
    """

    dialect: Dialect
    is_reusable: bool

    # The names, in lower case, of other fields that this product sends.
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
        self._certificate_header = field_name(name_or_default(certificate_header, dialect.certificate_header))
        self._chain_header = optional_field_name(name_or_default(chain_header, dialect.chain_header))
        if self._chain_header is not None and dialect.chain is None:
            raise ConfigurationError(f"chain_header={chain_header!r}: {dialect.name} sends no chain; expected None")
        if verify_header is None and not verified_by_proxy:
            verify_header = dialect.verify_header
        self._verify_header = optional_field_name(None if verify_header is False else verify_header)
        options.boolean("verified_by_proxy", verified_by_proxy)
        if verified_by_proxy and (self._verify_header or not dialect.may_verify):
            raise ConfigurationError(
                f"verified_by_proxy=True: {dialect.name} "
                + (
                    f"sends a verification word in {verify_header}; expected only one of verified_by_proxy= and "
                    "verify_header="
                    if self._verify_header
                    else "never verifies certificates"
                )
            )
        options.boolean("proxy_deletes_underscores", proxy_deletes_underscores)
        self._reads_hyphens = not proxy_deletes_underscores and any(map(is_foldable, self._names()))
        self._default_verification = Verification.BY_PROXY if verified_by_proxy else Verification.PRESENTED
        self._logged_warnings: set[str] = set()
        self._certificates: Cache[tuple[str, str | None, str], ClientCertificate] = Cache(
            _CACHE_SIZE, largest=_MAX_CACHED
        )

    def __init_subclass__(cls) -> None:
        """Declare the subclasses in this package reusable, because they read only the configured fields."""
        cls.is_reusable = cls.__module__ == "mtls_middleware.sources.products"

    @property
    def caches(self) -> tuple[Cache[Any, Any], ...]:
        """The caches that share the memory of a stack of layers."""
        return (self._certificates,)

    @property
    def reads_peer(self) -> bool:
        """Whether the result depends on the peer's address, and on whether the server folds header names."""
        return True

    @property
    def reads_tls(self) -> bool:
        """Whether the result depends on the certificate that the proxy itself presents."""
        return self._trust.has_proxy_rule

    @property
    def can_verify(self) -> bool:
        """Whether `find` can return a certificate with a `verification` other than `PRESENTED`."""
        return self._verify_header is not None or self._default_verification is Verification.BY_PROXY

    @property
    def drop_headers(self) -> frozenset[str]:
        """The names of further fields that the layer removes, besides `KNOWN_HEADERS`, in lower case."""
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
        """Whether this source trusts a request by the peer's address alone."""
        return self._trust.trusts_address_alone

    @property
    def needs_address(self) -> bool:
        """Whether the peer's address must be among `trusted_proxies`."""
        return self._trust.needs_address

    @property
    def reads_hyphens(self) -> bool:
        """Whether this source reads a field name that a server can create by folding another name.

        The result is `False` if `proxy_deletes_underscores` is true.
        """
        return self._reads_hyphens

    @property
    def vary(self) -> str:
        """The name of the certificate field, for the response's `Vary` (RFC 9440 2.4)."""
        return self._certificate_header

    def find(self, view: RequestView) -> ClientCertificate | None:
        """Return the certificate in this request's fields, or `None` without a certificate or a trusted peer.

        Raises `MalformedCertificate` if the fields of a trusted peer cannot be read or contradict each other. Raises
        `ConfigurationError` if the server may fold another name to the name of a field that this source reads.
        """
        problem = self._peer_problem(view.peer)
        if problem is None and not self._trust.depends_only_on_peer:
            problem = self._trust.request_problem(view)
        values = view.headers(self._certificate_header)
        if problem is not None:
            if values:
                _log_ignored(problem, view.now)
            return None
        value = single_value(values, self._certificate_header)
        word, chain = None, ""
        if self._verify_header is not None:
            word = single_value(view.headers(self._verify_header), "verification word")
        if self._chain_header is not None:
            chain = ", ".join(view.headers(self._chain_header))  # the field lines are one list (RFC 9440 2.3)
        if value is None:
            return self._parse_fields(None, word, chain, view.now)
        key = (value, word, chain)
        certificate = self._certificates.get(key)
        if certificate is None:
            certificate = self._parse_fields(value, word, chain, view.now)
            if certificate is not None:
                size = len(value) + len(word or "") + len(chain)
                self._certificates.put(key, certificate, size, extra=_OBJECTS + extra_bytes(certificate.der))
        return certificate

    def absence(self, view: RequestView) -> Absence:
        """Return why `find` returns no certificate for this request."""
        name = self._certificate_header
        present = bool(view.headers(name))
        untrusted = self._trust.explanation(view)
        if untrusted is not None:
            field = f"the field {name} is ignored" if present else f"the request has no field {name}"
            return Absence(f"{field}: {untrusted.evidence}", untrusted.advice)
        return self._absence_from_proxy(present)

    def _absence_from_proxy(self, present: bool) -> Absence:
        """Return why a request of the trusted proxy has no certificate. `present`: it has the certificate field."""
        if present:
            return Absence(
                f"the field {self._certificate_header} of the proxy contains no certificate",
                "the client presented none to the proxy: give it a certificate of a CA that the proxy accepts, and let "
                "the proxy request one",
            )
        return Absence(
            f"the proxy sent no field {self._certificate_header}",
            "let the proxy request client certificates and send this field; `mtls-middleware proxy-config` prints a "
            "complete configuration",
        )

    @property
    def has_proxy_certificate(self) -> bool:
        """Whether the proxy must present a certificate of its own."""
        return self._trust.has_proxy_rule

    def trusts_proxy_now(self, view: RequestView, clock_skew: float) -> bool:
        """Return whether the proxy's own certificate is within its validity period. If it is not, write a log record.

        This method does not apply the `proxy_certificate` rule. `find` applies the rule.
        """
        presented = server.read(view.tls, view.now)
        try:
            if presented is not None:
                require_valid(presented, view.now, clock_skew)
        except Refused as refusal:
            _log_ignored(f"the proxy's certificate was rejected: {'; '.join(refusal.evidence)}", view.now)
            return False
        return presented is not None

    def proxy_recheck(self, view: RequestView, clock_skew: float | None) -> Callable[[float], None] | None:
        """Return a function that checks the proxy's own certificate again later, for example for an open websocket.

        The function takes the time, and raises `Refused` if the certificate is no longer accepted. The result is `None`
        without the argument `proxy_certificate`, or if the proxy presented no certificate. `clock_skew`: tolerance in
        seconds, or `None` if the validity period is not checked.
        """
        try:
            presented = server.read(view.tls, view.now) if self.has_proxy_certificate else None
        except MalformedCertificate:  # `find` has already ignored the certificate header of this request
            presented = None
        if presented is None:
            return None

        def recheck(now: float) -> None:
            try:
                if clock_skew is not None:
                    require_valid(presented, now, clock_skew)
            except Refused as refusal:
                raise refusal.changed("the proxy's own certificate", *refusal.evidence) from None
            if not self._trust.accepts_proxy(presented):
                raise Refused(
                    "client_certificate_refused", "the proxy's own certificate does not match proxy_certificate="
                )

        return recheck

    def _peer_problem(self, peer: Peer) -> str | None:
        """Return the reason why this peer is not trusted, or `None` if it is trusted.

        If the peer's address may come from a header field, a warning is logged once. Raises `ConfigurationError`: see
        `find`.
        """
        if peer.spoofable is not None and self._reads_hyphens:
            raise ConfigurationError(peer.spoofable)
        problem = self._trust.peer_problem(peer)
        if problem is not None and problem == peer.doubt and problem not in self._logged_warnings:
            self._logged_warnings.add(problem)
            logger.warning("%s", problem)
        return problem

    def _parse_fields(
        self, value: str | None, word: str | None, chain_value: str, now: float
    ) -> ClientCertificate | None:
        """Return the certificate in the fields, or `None` if they contain no certificate.

        Raises `MalformedCertificate` if a field cannot be read, or if the certificate field and the verification word
        contradict each other.
        """
        dialect = self.dialect
        verdict = None
        if word is not None and word not in ("", "(null)"):
            verdict = dialect.verdict(word)
            if verdict is None:
                raise forms.unknown_word(word, dialect.name)
        if value is None or value in dialect.nothing:
            consistent = verdict in (None, Verdict.NONE) or word in dialect.words_without_certificate
            if not consistent and not (verdict is Verdict.FAILED and dialect.false_without_certificate):
                evidence = "the proxy sent a verification word for a certificate, but no certificate"
                raise MalformedCertificate(evidence, advice=_FIELDS_ADVICE)
            return None  # a chain without a leaf does not identify a client
        if self._verify_header is None:
            verification = self._default_verification
        elif verdict in (None, Verdict.NONE):
            evidence = (
                "the proxy sent a certificate, but no verification word, or the word for a request without certificate"
            )
            raise MalformedCertificate(evidence, advice=_FIELDS_ADVICE)
        else:
            verification = Verification.BY_PROXY if verdict is Verdict.SUCCESS else Verification.PRESENTED
        size = len(value) + len(chain_value)
        if size > MAX_FIELD:  # the size is checked before decoding, to limit the cost
            raise MalformedCertificate(f"the certificate fields have {size} characters; expected at most {MAX_FIELD}")
        leaf, *chain = self._leaf(value) or (None,)
        if leaf is None:
            if verdict is Verdict.SUCCESS:
                raise MalformedCertificate("the verification word means success, but the field contains no certificate")
            return None
        if chain_value and dialect.chain is not None:
            chain = [*dialect.chain(chain_value)]
        return leaf_and_chain.load(leaf, chain, verification, now)

    def _leaf(self, value: str) -> tuple[bytes, ...] | None:
        """Return the leaf and the chain (DER) in the certificate field, or `None` if it contains no certificate.

        Raises `MalformedCertificate`. If another source reads this form of the field, the log names the source.
        """
        try:
            return self._decode(value)
        except MalformedCertificate as error:
            raise forms.with_form(error, value, type(self).__name__) from error

    def _decode(self, value: str) -> tuple[bytes, ...] | None:
        return self.dialect.leaf(value)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(certificate_header={self._certificate_header!r})"
