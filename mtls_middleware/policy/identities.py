"""The rules that name somebody by what stands in the certificate: subject, issuer, SAN, SPIFFE ID, thumbprint.

Must never know: requests, or how rules are joined. How names are compared is the business of `names`.
"""

from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address, ip_address

from mtls_middleware.certificate import ClientCertificate
from mtls_middleware.errors import ConfigurationError
from mtls_middleware.names import distinguished, spiffe
from mtls_middleware.policy.rule import Identity, Judgement, Rule


class _Named(Identity):
    """A rule over what is written in the certificate, and nothing else."""

    is_lasting: bool = False

    def __init_subclass__(cls) -> None:
        cls.is_lasting = cls.__dict__.get("is_lasting", _Named in cls.__bases__)


@dataclass(frozen=True)
class Subject(_Named):
    """The whole subject DN, compared as parsed names (RFC 5280 7.1). Example: `Subject("CN=billing,O=Acme")`"""

    name: str
    _parsed: distinguished.DistinguishedName = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_parsed", _dn("Subject", self.name))

    def matches(self, certificate: ClientCertificate) -> bool:
        return distinguished.matches(self._parsed, certificate.subject_name)


@dataclass(frozen=True)
class Issuer(_Named):
    """The whole issuer DN, compared as `Subject` is. Example: `Issuer("CN=Acme Client CA,O=Acme")`"""

    name: str
    _parsed: distinguished.DistinguishedName = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_parsed", _dn("Issuer", self.name))

    def matches(self, certificate: ClientCertificate) -> bool:
        return distinguished.matches(self._parsed, certificate.issuer_name)


@dataclass(frozen=True)
class DNSName(_Named):
    """One of the dNSName entries, without case; no wildcard, no CN. Example: `DNSName("billing.internal")`"""

    name: str

    def __post_init__(self) -> None:
        if not _is_text(self.name) or {"*", " "} & set(self.name) or self.name.endswith("."):
            raise ConfigurationError(f"DNSName({self.name!r}): a whole name, for example DNSName('billing.internal')")

    def matches(self, certificate: ClientCertificate) -> bool:
        return certificate.alternative_names.has_dns(self.name)


@dataclass(frozen=True)
class URI(_Named):
    """One of the URI entries, character by character. Example: `URI("urn:acme:billing")`"""

    uri: str

    def __post_init__(self) -> None:
        if not _is_text(self.uri) or ":" not in self.uri:
            raise ConfigurationError(f"URI({self.uri!r}): an absolute URI, for example URI('urn:acme:billing')")

    def matches(self, certificate: ClientCertificate) -> bool:
        return certificate.alternative_names.has_uri(self.uri)


@dataclass(frozen=True)
class IPAddress(_Named):
    """One of the iPAddress entries, compared in binary (RFC 5952 8). Example: `IPAddress("192.0.2.7")`"""

    address: str | IPv4Address | IPv6Address

    def __post_init__(self) -> None:
        try:
            parsed = ip_address(self.address)
        except ValueError as error:
            raise ConfigurationError(f"IPAddress({self.address!r}): one address, for example '192.0.2.7'") from error
        if "%" in str(parsed):
            raise ConfigurationError(f"IPAddress({self.address!r}): a zone is local to one host, no certificate has it")
        object.__setattr__(self, "address", parsed)

    def matches(self, certificate: ClientCertificate) -> bool:
        return certificate.alternative_names.has_address(self.address)


@dataclass(frozen=True)
class Email(_Named):
    """One of the rfc822Name entries: local part exact, domain without case. Example: `Email("ops@acme.example")`"""

    address: str

    def __post_init__(self) -> None:
        if not _is_text(self.address) or not all(self.address.rpartition("@")[::2]):
            raise ConfigurationError(f"Email({self.address!r}): one mailbox, for example Email('ops@acme.example')")

    def matches(self, certificate: ClientCertificate) -> bool:
        return certificate.alternative_names.has_mailbox(self.address)


@dataclass(frozen=True)
class SpiffeID(_Named):
    """The SPIFFE ID, exactly. Example: `SpiffeID("spiffe://acme.internal/billing")`"""

    spiffe_id: str

    def __post_init__(self) -> None:
        try:
            parsed = spiffe.check(self.spiffe_id)
        except ValueError as error:
            raise ConfigurationError(f"SpiffeID({self.spiffe_id!r}): {error}") from error
        if not parsed.path:
            raise ConfigurationError(f"SpiffeID({self.spiffe_id!r}): a workload has a path, for example /billing")

    def matches(self, certificate: ClientCertificate) -> bool:
        return spiffe.readable_id(certificate.alternative_names) == self.spiffe_id


@dataclass(frozen=True)
class SpiffeTrustDomain(_Named):
    """Any workload of one SPIFFE trust domain. Example: `SpiffeTrustDomain("acme.internal")`"""

    name: str

    def __post_init__(self) -> None:
        try:
            parsed = spiffe.check(f"spiffe://{self.name}")
        except ValueError as error:
            raise ConfigurationError(f"SpiffeTrustDomain({self.name!r}): {error}") from error
        if parsed.path:
            raise ConfigurationError(f"SpiffeTrustDomain({self.name!r}): a name without path, such as 'acme.internal'")

    def matches(self, certificate: ClientCertificate) -> bool:
        found = spiffe.readable_id(certificate.alternative_names)
        return found is not None and spiffe.trust_domain(found) == self.name


@dataclass(frozen=True)
class Thumbprint(Rule):
    """One very certificate, by its `x5t#S256` (RFC 8705 3.1). Needs no chain: it accepts a merely presented one too.

    Example: `Thumbprint("A4DtL2JmUMhAsvJj5tKyn64SqzmuXbMrJa0n761y5v0")`, as `certificate.thumbprint` gives it.
    """

    thumbprint: str
    may_accept_presented = True
    may_reject_presented = True
    is_lasting = True

    def __post_init__(self) -> None:
        text = self.thumbprint
        if not _is_text(text) or len(text) != 43 or not text.replace("-", "").replace("_", "").isalnum():
            raise ConfigurationError(
                f"Thumbprint({text!r}): 43 characters of base64url, the SHA-256 of the DER; not hex, not padded"
            )

    def judge(self, certificate: ClientCertificate) -> Judgement:
        return certificate.thumbprint == self.thumbprint


def _dn(rule: str, text: str) -> distinguished.DistinguishedName:
    try:
        return distinguished.parse_expected(text)
    except (ValueError, TypeError) as error:
        raise ConfigurationError(f"{rule}({text!r}): {error}") from error


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value) and value.isascii() and value.isprintable()
