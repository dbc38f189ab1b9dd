"""`Trust`: decides by address, shared secret or proxy certificate whether a request comes from the trusted proxy.

The peer is checked first, and then the fields that the peer sent. The certificate header is not read here.
"""

import hmac
from collections.abc import Callable, Collection, Iterable
from functools import lru_cache
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    collapse_addresses,
    ip_address,
    ip_network,
)

from mtls_middleware.certificate import ClientCertificate
from mtls_middleware.errors import ConfigurationError, MalformedCertificate
from mtls_middleware.messages import short_list
from mtls_middleware.request import Peer, RequestView
from mtls_middleware.rule import Rule, as_rule
from mtls_middleware.sources import server
from mtls_middleware.sources.source import Absence

_UNTRUSTED = "the peer's address is not in trusted_proxies"
_MAPPED = IPv6Network("::ffff:0:0/96")
_EXAMPLE = 'for example trusted_proxies=["10.0.0.0/8", "192.0.2.7", "unix"]'
# Fields whose CGI keys have no HTTP_ prefix (RFC 3875 4.1.2, 4.1.3). Applications need these fields, so the layer
# cannot remove them.
_FIELDS_WITHOUT_PREFIX = ("content-length", "content-type")
# Maximum number of trusted networks that a log record shows.
_MAX_SHOWN = 8
# Minimum number of characters in a shared secret. An attacker could find a shorter secret by trying many values.
_MIN_SECRET_LENGTH = 16

ProxyCertificateRule = Rule | Callable[[ClientCertificate], bool]

# The accepted forms are (header, value), (header, [value, ...]) and (header, value, value, ...).
SharedSecret = tuple[str, str | Collection[str]] | tuple[str, str, *tuple[str, ...]]

_USAGE = 'for example ("MtlsProxySecret", os.environ["MTLS_PROXY_SECRET"]) or ("MtlsProxySecret", [new, old])'


class Trust:
    """Decides whether a request comes from the trusted proxy. The request must satisfy every argument that is given.

    Raises `ConfigurationError` if no argument is given.
    """

    def __init__(
        self,
        trusted_proxies: Collection[str],
        shared_secret: SharedSecret | None,
        proxy_certificate: ProxyCertificateRule | None,
    ) -> None:
        if isinstance(trusted_proxies, (str, bytes)) or not isinstance(trusted_proxies, Collection):
            raise ConfigurationError(f"trusted_proxies={trusted_proxies!r}: expected a list of strings, {_EXAMPLE}")
        self.trusted_proxies: tuple[str, ...] = tuple(trusted_proxies)
        self._peers = bool(trusted_proxies)
        self._unix = "unix" in trusted_proxies
        self._networks = _by_prefix(_network(each) for each in trusted_proxies if each != "unix")
        self._secret = None if shared_secret is None else _secret(shared_secret)
        self._rule = None if proxy_certificate is None else as_rule(proxy_certificate)
        self.trusts_address_alone: bool = self._peers and self._secret is None and self._rule is None
        self.depends_only_on_peer: bool = self._secret is None and self._rule is None
        if not self._peers and self.depends_only_on_peer:
            raise ConfigurationError(
                "a header source needs at least one of trusted_proxies=, shared_secret= and proxy_certificate=, "
                f"{_EXAMPLE} or shared_secret={_USAGE.removeprefix('for example ')}"
            )

    @property
    def needs_address(self) -> bool:
        """Whether the peer's address must be among `trusted_proxies`."""
        return self._peers

    @property
    def has_proxy_rule(self) -> bool:
        """Whether the proxy must present a certificate of its own."""
        return self._rule is not None

    @property
    def secret_header(self) -> str | None:
        """The name of the field with the shared secret, in lower case; `None` without a shared secret."""
        return None if self._secret is None else self._secret[0]

    def peer_problem(self, peer: Peer) -> str | None:
        """Return the reason why this peer is not trusted, for the operator's log, or `None` if the peer is trusted."""
        if not self._peers:
            return None
        if peer.unix:
            return None if self._unix else 'the peer is a unix socket, but "unix" is not in trusted_proxies'
        if peer.doubt is not None:
            return peer.doubt
        if self._unix and not peer.address:
            return (
                "the server does not report whether its peer is a unix socket: give shared_secret= without "
                "trusted_proxies="
            )
        # Only strings are accepted: `ip_address` would read any 4 or 16 bytes as an address, for example the name of a
        # unix socket.
        if not isinstance(peer.address, str) or not self._is_trusted_address(peer.address):
            return _UNTRUSTED
        return None

    def request_problem(self, view: RequestView) -> str | None:
        """Return the reason why the shared secret or the proxy's own certificate is not accepted, for the log.

        Returns `None` if both are accepted.
        """
        if self._secret is not None:
            header, expected = self._secret
            found = view.headers(header)
            # Exactly one field line is accepted: of two field lines, one may come from the client.
            if len(found) != 1 or not _matches_any(found[0].encode("latin-1", "replace"), expected):
                return "the shared secret header is missing, wrong or repeated"
        if self._rule is not None:
            try:
                presented = server.read(view.tls, view.now)
            except MalformedCertificate:
                presented = None
            if presented is None or not self.accepts_proxy(presented):
                return "the proxy's own certificate is missing or does not match proxy_certificate="
        return None

    def explanation(self, view: RequestView) -> Absence | None:
        """Return why this request is not trusted, with the peer and the trusted networks; `None` if it is."""
        problem = self.peer_problem(view.peer)
        if problem == _UNTRUSTED:
            trusted = short_list([*map(repr, self.trusted_proxies)], _MAX_SHOWN)
            return Absence(
                f"the peer {view.peer.address!a} is not in trusted_proxies=[{trusted}]",
                "if this peer is your proxy, add its address to trusted_proxies=; if it is not, let only the proxy "
                "connect to the application",
            )
        if problem is not None:
            return Absence(problem, "change trusted_proxies= or the server's options as the reason says")
        problem = self.request_problem(view)
        if problem is None:
            return None
        return Absence(
            problem,
            "configure the proxy to send the value of shared_secret= in this field, and to replace the client's, or to "
            "present the certificate that proxy_certificate= expects",
        )

    def accepts_proxy(self, presented: ClientCertificate) -> bool:
        """Return whether the rule for the proxy's own certificate accepts this certificate."""
        return self._rule is None or self._rule.holds(presented)

    def _is_trusted_address(self, text: str) -> bool:
        address = _address(text)
        if address is None:
            return False
        version, width, number = address
        for (family, prefix), networks in self._networks.items():
            if family == version and number >> (width - prefix) in networks:
                return True
        return False


@lru_cache(maxsize=256)  # it takes 3 us to parse an address, and a service has few proxies (benchmark 2)
def _address(text: str) -> tuple[int, int, int] | None:
    """Return version, number of bits, and value of an address, or `None` for a string that no network can contain."""
    try:
        address: IPv4Address | IPv6Address = ip_address(text)
    except ValueError:  # '', 'localhost', '<local>' and 'testclient' are never trusted
        return None
    if isinstance(address, IPv6Address):
        if address.scope_id is not None:  # a zone names an interface of this machine
            return None
        address = address.ipv4_mapped or address  # a server on [::] reports mapped addresses
    return address.version, address.max_prefixlen, int(address)


def _network(text: object) -> IPv4Network | IPv6Network:
    if not isinstance(text, str):
        raise ConfigurationError(f"{text!r} in trusted_proxies is not a string, {_EXAMPLE}")
    if "%" in text:
        raise ConfigurationError(
            f"{text!r} in trusted_proxies has an IPv6 zone; expected a network without a zone, {_EXAMPLE}"
        )
    try:
        network = ip_network(text, strict=True)
    except ValueError as error:
        raise ConfigurationError(
            f"{text!r} in trusted_proxies is not a network, an address or 'unix' ({error}); {_EXAMPLE}"
        ) from error
    if isinstance(network, IPv6Network) and network.subnet_of(_MAPPED):
        return IPv4Network((int(network.network_address) & 0xFFFF_FFFF, network.prefixlen - 96))
    return network


def _by_prefix(networks: Iterable[IPv4Network | IPv6Network]) -> dict[tuple[int, int], frozenset[int]]:
    """Group networks by IP version and prefix length, so that the cost of a look-up does not depend on their number.

    Raises `ConfigurationError` if the networks contain every address.
    """
    found = list(networks)
    v4 = collapse_addresses(each for each in found if isinstance(each, IPv4Network))
    v6 = collapse_addresses(each for each in found if isinstance(each, IPv6Network))
    if IPv4Network("0.0.0.0/0") in v4 or IPv6Network("::/0") in v6:
        raise ConfigurationError(
            f"trusted_proxies contains every IPv4 or every IPv6 address, so every client would be trusted; {_EXAMPLE}"
        )
    table: dict[tuple[int, int], set[int]] = {}
    for each in found:
        shifted = int(each.network_address) >> (each.max_prefixlen - each.prefixlen)
        table.setdefault((each.version, each.prefixlen), set()).add(shifted)
    return {key: frozenset(numbers) for key, numbers in table.items()}


def _matches_any(value: bytes, secrets: tuple[bytes, ...]) -> bool:
    """Return whether one of the secrets equals `value`. The time does not depend on which secret matches."""
    matches = False
    for secret in secrets:
        matches |= hmac.compare_digest(value, secret)
    return matches


def _secret(shared_secret: SharedSecret) -> tuple[str, tuple[bytes, ...]]:
    """Return the header name in lower case, and the values of the shared secret. No error message contains a value."""
    match shared_secret:
        case (str(header), str(), *_) | (str(header), list() | tuple() | set() | frozenset()):
            rest = shared_secret[1:]
        case _:
            raise ConfigurationError(f"shared_secret: expected a header name and one or more values, {_USAGE}")
    if not header.isascii() or not header.replace("-", "").isalnum():
        raise ConfigurationError(
            f"shared_secret: expected first a header name of letters, digits and hyphens, {_USAGE}"
        )
    values = rest if isinstance(rest[0], str) else tuple(rest[0])
    if header.lower() in _FIELDS_WITHOUT_PREFIX:
        raise ConfigurationError(
            f"shared_secret in {header}: applications need this field, so the layer cannot remove it; use for example "
            "MtlsProxySecret"
        )
    if not values:
        raise ConfigurationError(f"shared_secret has a header name but no value: expected one or more values, {_USAGE}")
    if not all(isinstance(value, str) for value in values):
        raise ConfigurationError(f"a value of shared_secret is not a string: expected only strings, {_USAGE}")
    if not all(_is_secret(value) for value in values if isinstance(value, str)):
        raise ConfigurationError(
            f"each value of shared_secret needs at least {_MIN_SECRET_LENGTH} printable ASCII characters, and no space "
            "at its beginning or end; for example the output of `openssl rand -hex 32`"
        )
    return header.lower(), tuple(value.encode("ascii") for value in values if isinstance(value, str))


def _is_secret(value: str) -> bool:
    return len(value) >= _MIN_SECRET_LENGTH and value.isascii() and value.isprintable() and value == value.strip()
