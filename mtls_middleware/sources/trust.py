"""Who is believed when a request says whose certificate it carries: `Trust` over peers, a shared secret, a certificate.

Must never know: what the certificate header says. The peer comes first, then what it sent.
"""

import hmac
from collections.abc import Callable, Collection, Iterable
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
from mtls_middleware.policy.rule import Rule, as_rule
from mtls_middleware.request import Peer, RequestView
from mtls_middleware.sources import server

_MAPPED = IPv6Network("::ffff:0:0/96")
_EXAMPLE = 'for example trusted_proxies=["10.0.0.0/8", "192.0.2.7", "unix"]'
# CGI has keys without HTTP_ for these (RFC 3875 4.1.2, 4.1.3), which are the application's, and cannot be removed.
_ITS_OWN_KEY = ("content-length", "content-type")
# Below this a secret can be guessed by trying.
_SHORTEST_SECRET = 16

ProxyCertificateRule = Rule | Callable[[ClientCertificate], bool]

# A header's name with one value, with a list of values, or with several values behind it.
SharedSecret = tuple[str, str | Collection[str]] | tuple[str, str, *tuple[str, ...]]

_HOW_TO_GIVE_IT = 'for example ("MtlsProxySecret", os.environ["MTLS_PROXY_SECRET"]) or ("MtlsProxySecret", [new, old])'


class Trust:
    """Every kind of trust given must hold, and at least one must be given."""

    def __init__(
        self,
        trusted_proxies: Collection[str],
        shared_secret: SharedSecret | None,
        proxy_certificate: ProxyCertificateRule | None,
    ) -> None:
        if isinstance(trusted_proxies, (str, bytes)) or not isinstance(trusted_proxies, Collection):
            raise ConfigurationError(f"trusted_proxies={trusted_proxies!r} is no list of texts: {_EXAMPLE}")
        self._peers = bool(trusted_proxies)
        self._unix = "unix" in trusted_proxies
        self._networks = _by_prefix(_network(each) for each in trusted_proxies if each != "unix")
        self._secret = None if shared_secret is None else _secret(shared_secret)
        self._rule = None if proxy_certificate is None else as_rule(proxy_certificate)
        self.trusts_address_alone: bool = self._peers and self._secret is None and self._rule is None
        # The result depends on the peer alone.
        self.is_of_peers: bool = self._secret is None and self._rule is None
        if not self._peers and self.is_of_peers:
            raise ConfigurationError(f"a header source needs somebody to trust, {_EXAMPLE}, or shared_secret=")

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
        """The field that carries the shared secret, lower case: it is removed like a certificate header."""
        return None if self._secret is None else self._secret[0]

    def doubt_peer(self, peer: Peer) -> str | None:
        """`None` where this peer is believed, else why not, in words for the operator's log."""
        if not self._peers:
            return None
        if peer.unix:
            return None if self._unix else 'the peer is a unix socket and "unix" is not among trusted_proxies'
        if peer.doubt is not None:
            return peer.doubt
        if self._unix and not peer.address:
            return "the server does not say whether its peer is a unix socket: use a shared_secret= alone"
        # Text alone: as octets, which a unix socket may be called by, anything of length 4 or 16 would be an address.
        if not isinstance(peer.address, str) or not self._is_trusted_address(peer.address):
            return "the peer is not among trusted_proxies"
        return None

    def doubt_request(self, view: RequestView) -> str | None:
        """The same of what a request of the peer brings along: the shared secret, the proxy's own certificate."""
        if self._secret is not None:
            header, values = self._secret
            given = view.headers(header)
            # Exactly one: where two arrive, one of them may be the client's own.
            if len(given) != 1 or not _is_one_of(given[0].encode("latin-1", "replace"), values):
                return "the shared secret header is missing, wrong or there twice"
        if self._rule is not None:
            try:
                presented = server.read(view.tls)
            except MalformedCertificate:
                presented = None
            if presented is None or not self.accepts_proxy(presented):
                return "the proxy's own certificate is missing or not the one expected"
        return None

    def accepts_proxy(self, presented: ClientCertificate) -> bool:
        """Whether this may be the proxy's own certificate."""
        return self._rule is None or self._rule.holds(presented)

    def _is_trusted_address(self, text: str) -> bool:
        try:
            address: IPv4Address | IPv6Address = ip_address(text)
        except ValueError:  # '', 'localhost', '<local>', 'testclient': not an address, so not a trusted peer
            return False
        if isinstance(address, IPv6Address):
            if address.scope_id is not None:  # a zone names an interface of this machine, not a network
                return False
            address = address.ipv4_mapped or address  # an IPv4 client on a [::] listener
        number, width = int(address), address.max_prefixlen
        return any(
            number >> (width - prefix) in networks
            for (family, prefix), networks in self._networks.items()
            if family == address.version
        )


def _network(text: object) -> IPv4Network | IPv6Network:
    if not isinstance(text, str):
        raise ConfigurationError(f"{text!r} in trusted_proxies is not a text, {_EXAMPLE}")
    if "%" in text:
        raise ConfigurationError(f"{text!r} in trusted_proxies has a zone; name the network, {_EXAMPLE}")
    try:
        network = ip_network(text, strict=True)
    except ValueError as error:
        raise ConfigurationError(
            f"{text!r} in trusted_proxies is no network, no address and not 'unix' ({error}); {_EXAMPLE}"
        ) from error
    if isinstance(network, IPv6Network) and network.subnet_of(_MAPPED):
        return IPv4Network((int(network.network_address) & 0xFFFF_FFFF, network.prefixlen - 96))
    return network


def _by_prefix(networks: Iterable[IPv4Network | IPv6Network]) -> dict[tuple[int, int], frozenset[int]]:
    """Networks as sets per prefix length, so that a look-up costs the same for one and for a thousand."""
    found = list(networks)
    v4 = collapse_addresses(each for each in found if isinstance(each, IPv4Network))
    v6 = collapse_addresses(each for each in found if isinstance(each, IPv6Network))
    if IPv4Network("0.0.0.0/0") in v4 or IPv6Network("::/0") in v6:
        raise ConfigurationError("trusted_proxies covers all addresses of a family: anybody could speak for anybody")
    table: dict[tuple[int, int], set[int]] = {}
    for each in found:
        shifted = int(each.network_address) >> (each.max_prefixlen - each.prefixlen)
        table.setdefault((each.version, each.prefixlen), set()).add(shifted)
    return {key: frozenset(numbers) for key, numbers in table.items()}


def _is_one_of(given: bytes, values: tuple[bytes, ...]) -> bool:
    """Compares with every value: the time does not tell a client which of them is near."""
    found = False
    for value in values:
        found |= hmac.compare_digest(given, value)
    return found


def _secret(shared_secret: SharedSecret) -> tuple[str, tuple[bytes, ...]]:
    """The header in lower case, and every value. No message contains a value."""
    match shared_secret:
        case (str(header), str(), *_) | (str(header), list() | tuple() | set() | frozenset()):
            rest = shared_secret[1:]
        case _:
            raise ConfigurationError(f"shared_secret is a pair of a header and its value or values: {_HOW_TO_GIVE_IT}")
    if not header.isascii() or not header.replace("-", "").isalnum():
        raise ConfigurationError(
            f"shared_secret begins with a header name of letters, digits and hyphens, {_HOW_TO_GIVE_IT}"
        )
    values = rest if isinstance(rest[0], str) else tuple(rest[0])
    if header.lower() in _ITS_OWN_KEY:
        raise ConfigurationError(
            f"a shared_secret in {header}: no layer can keep that from applications; take MtlsProxySecret"
        )
    if not values:
        raise ConfigurationError(f"shared_secret has a header and no value: {_HOW_TO_GIVE_IT}")
    if not all(isinstance(value, str) for value in values):
        raise ConfigurationError(f"a value of shared_secret is not a string: {_HOW_TO_GIVE_IT}")
    if not all(_is_secret(value) for value in values if isinstance(value, str)):
        raise ConfigurationError(
            f"each value of shared_secret needs {_SHORTEST_SECRET} or more printable ASCII characters, and no blank at "
            "an end: for example the output of openssl rand -hex 32"
        )
    return header.lower(), tuple(value.encode("ascii") for value in values if isinstance(value, str))


def _is_secret(value: str) -> bool:
    return len(value) >= _SHORTEST_SECRET and value.isascii() and value.isprintable() and value == value.strip()
