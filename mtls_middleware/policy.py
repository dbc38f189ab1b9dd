"""Rules over a client certificate, joined by `&`, `|` and `~`.

Must never know: requests, paths, tokens. A rule judges yes, no, or "cannot be known": the third is what a merely
presented certificate gets from a rule that names somebody, and no operator turns it into a yes.
"""

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address, ip_address

from mtls_middleware.certificate import ClientCertificate
from mtls_middleware.errors import ConfigurationError, MalformedCertificate
from mtls_middleware.names import alternative, distinguished, spiffe

# Kleene's three values: True, False, None for "cannot be known".
Judgement = bool | None


class Rule:
    """What all rules have in common. `rule.holds(certificate)` is `True` only for a plain yes."""

    # Whether a merely presented certificate can satisfy the rule at all; decides at construction whether a source fits.
    may_accept_presented = False
    # Whether one can fail it, by what is known all the same: the answer that `~` turns into the former.
    may_reject_presented = False

    def judge(self, certificate: ClientCertificate) -> Judgement:
        """Yes, no or cannot be known."""
        raise NotImplementedError

    def holds(self, certificate: ClientCertificate) -> bool:
        """Whether the certificate is allowed. Names that cannot be read allow nothing."""
        try:
            return self.judge(certificate) is True
        except MalformedCertificate:
            return False

    def __and__(self, other: "Rule | Callable[[ClientCertificate], bool]") -> "Rule":
        return All(self, as_rule(other))

    def __or__(self, other: "Rule | Callable[[ClientCertificate], bool]") -> "Rule":
        return AnyOf(self, as_rule(other))

    def __rand__(self, other: "Callable[[ClientCertificate], bool]") -> "Rule":
        return All(as_rule(other), self)

    def __ror__(self, other: "Callable[[ClientCertificate], bool]") -> "Rule":
        return AnyOf(as_rule(other), self)

    def __invert__(self) -> "Rule":
        return Not(self)

    def __bool__(self) -> bool:
        """`one and other` would silently be `other` alone: raises `ConfigurationError`."""
        raise ConfigurationError(f"{self!r} is no truth value: join rules by &, | and ~, not by and, or, not")


@dataclass(frozen=True)
class All(Rule):
    """`left & right`."""

    left: Rule
    right: Rule

    @property
    def may_accept_presented(self) -> bool:  # type: ignore[override]  # a class constant elsewhere, read-only here
        return self.left.may_accept_presented and self.right.may_accept_presented

    @property
    def may_reject_presented(self) -> bool:  # type: ignore[override]  # as above
        return self.left.may_reject_presented or self.right.may_reject_presented

    def judge(self, certificate: ClientCertificate) -> Judgement:
        left = self.left.judge(certificate)
        right = None if left is False else self.right.judge(certificate)
        if left is False or right is False:
            return False
        return True if left is True and right is True else None


@dataclass(frozen=True)
class AnyOf(Rule):
    """`left | right`."""

    left: Rule
    right: Rule

    @property
    def may_accept_presented(self) -> bool:  # type: ignore[override]  # a class constant elsewhere, read-only here
        return self.left.may_accept_presented or self.right.may_accept_presented

    @property
    def may_reject_presented(self) -> bool:  # type: ignore[override]  # as above
        return self.left.may_reject_presented and self.right.may_reject_presented

    def judge(self, certificate: ClientCertificate) -> Judgement:
        left = self.left.judge(certificate)
        right = None if left is True else self.right.judge(certificate)
        if left is True or right is True:
            return True
        return False if left is False and right is False else None


@dataclass(frozen=True)
class Not(Rule):
    """`~rule`: what cannot be known stays so."""

    rule: Rule

    @property
    def may_accept_presented(self) -> bool:  # type: ignore[override]  # a class constant elsewhere, read-only here
        return self.rule.may_reject_presented

    @property
    def may_reject_presented(self) -> bool:  # type: ignore[override]  # as above
        return self.rule.may_accept_presented

    def judge(self, certificate: ClientCertificate) -> Judgement:
        inner = self.rule.judge(certificate)
        return not inner if isinstance(inner, bool) else None


class Identity(Rule):
    """A rule that names somebody: it can only be known of a certificate whose chain somebody vouches for."""

    def matches(self, certificate: ClientCertificate) -> bool:
        """Whether the names fit, whoever wrote them."""
        raise NotImplementedError

    def judge(self, certificate: ClientCertificate) -> Judgement:
        return _plain(self.matches(certificate)) if certificate.verified else None


def _plain(answer: object) -> Judgement:
    """Only `True` itself is a yes: an un-awaited coroutine is truthy too."""
    if answer is True or answer is False:
        return answer
    if inspect.iscoroutine(answer):
        answer.close()
    return None


@dataclass(frozen=True)
class Subject(Identity):
    """The whole subject DN, compared as parsed names (RFC 5280 7.1). Example: `Subject("CN=billing,O=Acme")`"""

    name: str
    _parsed: distinguished.DistinguishedName = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_parsed", _dn("Subject", self.name))

    def matches(self, certificate: ClientCertificate) -> bool:
        return distinguished.matches(self._parsed, certificate.subject_name)


@dataclass(frozen=True)
class Issuer(Identity):
    """The whole issuer DN, compared as `Subject` is. Example: `Issuer("CN=Acme Client CA,O=Acme")`"""

    name: str
    _parsed: distinguished.DistinguishedName = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_parsed", _dn("Issuer", self.name))

    def matches(self, certificate: ClientCertificate) -> bool:
        return distinguished.matches(self._parsed, certificate.issuer_name)


@dataclass(frozen=True)
class DNSName(Identity):
    """One of the dNSName entries, without case; no wildcard, no CN. Example: `DNSName("billing.internal")`"""

    name: str

    def __post_init__(self) -> None:
        if not _is_text(self.name) or {"*", " "} & set(self.name) or self.name.endswith("."):
            raise ConfigurationError(f"DNSName({self.name!r}): a whole name, for example DNSName('billing.internal')")

    def matches(self, certificate: ClientCertificate) -> bool:
        return any(alternative.same_dns(self.name, each) for each in certificate.dns_names)


@dataclass(frozen=True)
class URI(Identity):
    """One of the URI entries, character by character. Example: `URI("urn:acme:billing")`"""

    uri: str

    def __post_init__(self) -> None:
        if not _is_text(self.uri) or ":" not in self.uri:
            raise ConfigurationError(f"URI({self.uri!r}): an absolute URI, for example URI('urn:acme:billing')")

    def matches(self, certificate: ClientCertificate) -> bool:
        return self.uri in certificate.uris


@dataclass(frozen=True)
class IPAddress(Identity):
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
        return self.address in certificate.ip_addresses


@dataclass(frozen=True)
class Email(Identity):
    """One of the rfc822Name entries: local part exact, domain without case. Example: `Email("ops@acme.example")`"""

    address: str

    def __post_init__(self) -> None:
        if not _is_text(self.address) or not all(self.address.rpartition("@")[::2]):
            raise ConfigurationError(f"Email({self.address!r}): one mailbox, for example Email('ops@acme.example')")

    def matches(self, certificate: ClientCertificate) -> bool:
        return any(alternative.same_email(self.address, each) for each in certificate.email_addresses)


@dataclass(frozen=True)
class SpiffeID(Identity):
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
        return certificate.spiffe_id == self.spiffe_id


@dataclass(frozen=True)
class SpiffeTrustDomain(Identity):
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
        found = certificate.spiffe_id
        return found is not None and spiffe.trust_domain(found) == self.name


@dataclass(frozen=True)
class Thumbprint(Rule):
    """One very certificate, by its `x5t#S256` (RFC 8705 3.1). Needs no chain: it accepts a merely presented one too.

    Example: `Thumbprint("A4DtL2JmUMhAsvJj5tKyn64SqzmuXbMrJa0n761y5v0")`, as `certificate.thumbprint` gives it.
    """

    thumbprint: str
    may_accept_presented = True
    may_reject_presented = True

    def __post_init__(self) -> None:
        text = self.thumbprint
        if not _is_text(text) or len(text) != 43 or not text.replace("-", "").replace("_", "").isalnum():
            raise ConfigurationError(
                f"Thumbprint({text!r}): 43 characters of base64url, the SHA-256 of the DER; not hex, not padded"
            )

    def judge(self, certificate: ClientCertificate) -> Judgement:
        return certificate.thumbprint == self.thumbprint


@dataclass(frozen=True)
class Function(Identity):
    """Any callable over the certificate; it never sees a merely presented one."""

    function: Callable[[ClientCertificate], bool]

    def matches(self, certificate: ClientCertificate) -> bool:
        return self.function(certificate)


class Presented(Rule):
    """Let `rule` see merely presented certificates too: what it names is then what the client wrote into its own.

    Example: `Presented(lambda certificate: certificate.thumbprint in registered)`
    """

    may_accept_presented = True
    may_reject_presented = True

    def __init__(self, rule: Identity | Callable[[ClientCertificate], bool]) -> None:
        inner = as_rule(rule)
        if not isinstance(inner, Identity):
            raise ConfigurationError(f"Presented({rule!r}): wrap the single rule or callable, then combine")
        self._rule = inner

    def judge(self, certificate: ClientCertificate) -> Judgement:
        return _plain(self._rule.matches(certificate))

    def __repr__(self) -> str:
        return f"Presented({self._rule!r})"


def as_rule(rule: Rule | Callable[[ClientCertificate], bool]) -> Rule:
    """A rule as it is, a callable as a rule. Raises `ConfigurationError` for anything else, and for `async def`."""
    if isinstance(rule, Rule):
        return rule
    if isinstance(rule, type) or not callable(rule):
        raise ConfigurationError(f"{rule!r} is no rule; for example Subject('CN=billing,O=Acme'), or a callable")
    if inspect.iscoroutinefunction(rule) or inspect.iscoroutinefunction(type(rule).__call__):
        raise ConfigurationError(f"{rule!r} is async: a rule answers at once, True or False")
    return Function(rule)


def _dn(rule: str, text: str) -> distinguished.DistinguishedName:
    try:
        return distinguished.expected(text)
    except (ValueError, TypeError) as error:
        raise ConfigurationError(f"{rule}({text!r}): {error}") from error


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value) and value.isascii() and value.isprintable()
