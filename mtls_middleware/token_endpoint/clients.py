"""`RegisteredClient`: an OAuth client and its registered RFC 8705 metadata.

Metadata that cannot identify exactly one client is rejected here, at registration.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from mtls_middleware import options
from mtls_middleware.effects.address import check_address
from mtls_middleware.errors import ConfigurationError, require_extra
from mtls_middleware.json_values import excerpt
from mtls_middleware.policy.identities import URI, DNSName, Email, IPAddress, Subject
from mtls_middleware.rule import Rule
from mtls_middleware.token_endpoint.credentials import PKI, SELF_SIGNED
from mtls_middleware.token_endpoint.registered_certificates import RegisteredCertificates
from mtls_middleware.validation.chain_validator import ChainValidator

# The metadata members for a certificate's name, and their rules. A client registers exactly one member (RFC 8705
# 2.1.2).
_SUBJECTS: Mapping[str, type[Rule]] = {
    "tls_client_auth_subject_dn": Subject,
    "tls_client_auth_san_dns": DNSName,
    "tls_client_auth_san_uri": URI,
    "tls_client_auth_san_ip": IPAddress,
    "tls_client_auth_san_email": Email,
}
_BOUND = "tls_client_certificate_bound_access_tokens"
# Names from drafts of RFC 8705. They are accepted only with `drafts=True`, and never written.
_DRAFT_BOUND, _DRAFT_SELF_SIGNED = "mutual_tls_sender_constrained_access_tokens", "pub_key_tls_client_auth"
# Members from drafts of RFC 8705 that restrict a client to one CA. They are not implemented. Metadata with such a
# member is rejected, because ignoring a restriction would grant more access.
_DRAFT_RESTRICTIONS = ("tls_client_auth_root_dn", "tls_client_auth_issuer_dn")


class RegistrationError(ConfigurationError):
    """Raised if the metadata of a client cannot be used. The message names the client.

    Example:
        >>> RegisteredClient(client_id="billing", token_endpoint_auth_method="tls_client_auth")
        Traceback (most recent call last):
        mtls_middleware.token_endpoint.clients.RegistrationError: client 'billing': ...
    """

    @classmethod
    def of(cls, client_id: object, reason: object) -> Self:
        """Return the exception for one client. Example: `RegistrationError.of("billing", "no jwks")`"""
        return cls(f"client {excerpt(client_id)}: {reason}")


@dataclass(frozen=True, kw_only=True)
class RegisteredClient:
    """A registered OAuth client (RFC 7591 2). The attributes about certificates have the names from RFC 8705.

    Attributes:
        client_id: the identifier that the client sends, compared as an exact string.
        token_endpoint_auth_method: `"tls_client_auth"`, `"self_signed_tls_client_auth"`, or a method that the
            application checks, such as `"client_secret_basic"` or `"none"`.
        tls_client_auth_subject_dn, tls_client_auth_san_dns, tls_client_auth_san_uri, tls_client_auth_san_ip,
        tls_client_auth_san_email: the name that the certificate must contain. For `tls_client_auth`, give exactly one
            of these five.
        jwks, jwks_uri: a JWK Set, or its https address, with the certificates of a `self_signed_tls_client_auth` client
            in `x5c`. Give one of the two.
        tls_client_certificate_bound_access_tokens: whether the client requests certificate-bound access tokens
            (RFC 8705 3.4).
        trust_store: validates this client's certificates, instead of the `trust_store` of the authenticator.

    Raises `RegistrationError`, which is a `ConfigurationError`. If the look-up function of a `ClientAuthenticator`
    raises this exception, the authentication of the client fails, and the message is logged.

    Example: `RegisteredClient(client_id="billing", token_endpoint_auth_method="tls_client_auth",
    tls_client_auth_san_dns="billing.internal")`
    """

    client_id: str
    token_endpoint_auth_method: str
    tls_client_auth_subject_dn: str | None = None
    tls_client_auth_san_dns: str | None = None
    tls_client_auth_san_uri: str | None = None
    tls_client_auth_san_ip: str | None = None
    tls_client_auth_san_email: str | None = None
    jwks: Mapping[str, Any] | None = field(default=None, repr=False, hash=False)
    jwks_uri: str | None = None
    tls_client_certificate_bound_access_tokens: bool = False
    trust_store: ChainValidator | None = field(default=None, repr=False, hash=False)
    identity: Rule | None = field(init=False, repr=False, compare=False)
    certificates: RegisteredCertificates | None = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        try:
            self._check()
            object.__setattr__(self, "identity", self._identity())
            object.__setattr__(self, "certificates", self._certificates())
        except ConfigurationError as error:
            raise RegistrationError.of(self.client_id, error) from error

    def _check(self) -> None:
        """Check the members that are the same for all methods. Raises `ConfigurationError`."""
        for name in ("client_id", "token_endpoint_auth_method"):
            value = getattr(self, name)
            if not (isinstance(value, str) and value and value.isascii() and value.isprintable()):
                raise ConfigurationError(
                    f"{name}={excerpt(value)}: expected a string of printable ASCII (RFC 6749 A.1)"
                )
        options.boolean(_BOUND, self.tls_client_certificate_bound_access_tokens)
        if self.trust_store is not None:
            options.object_with_method("trust_store", self.trust_store, "validate", "TrustStore(['clients-ca.pem'])")
        if self.jwks is not None and self.jwks_uri is not None:
            raise ConfigurationError("jwks and jwks_uri are both given; expected only one of the two (RFC 7591 2)")

    def _identity(self) -> Rule | None:
        given = {name: getattr(self, name) for name in _SUBJECTS if getattr(self, name) is not None}
        if self.token_endpoint_auth_method != PKI:
            if given:
                raise ConfigurationError(f"{', '.join(given)} may be given only with the method {PKI!r}")
            return None
        if len(given) != 1:
            raise ConfigurationError(f"{PKI} requires exactly one of {', '.join(_SUBJECTS)}; given: {len(given)}")
        ((name, value),) = given.items()
        try:
            if not isinstance(value, str):
                raise ConfigurationError(f"{excerpt(value)}: expected a string")
            return _SUBJECTS[name](value)  # type: ignore[call-arg]  # each rule takes one string
        except ConfigurationError as error:
            raise ConfigurationError(f"{name}: {error}") from error

    def _certificates(self) -> RegisteredCertificates | None:
        if self.token_endpoint_auth_method != SELF_SIGNED:
            return None
        if self.jwks_uri is not None:
            require_extra("httpx2", "http", "jwks_uri")
            # http is accepted here, because the authenticator decides whether it is allowed.
            check_address("jwks_uri", self.jwks_uri, allow_http=True)
            return None
        try:
            found = RegisteredCertificates.parse(self.jwks)
        except ValueError as error:
            raise ConfigurationError(f"jwks: {error}; {SELF_SIGNED} requires jwks or jwks_uri") from error
        if not found.certificates:
            raise ConfigurationError(
                f"jwks: {SELF_SIGNED} requires an entry with a usable x5c, but no entry has one (see the log)"
            )
        return found

    @classmethod
    def from_metadata(
        cls, metadata: Mapping[str, Any], *, drafts: bool = False, trust_store: ChainValidator | None = None
    ) -> Self:
        """Create a client from registration metadata (RFC 7591 2).

        Unknown members are ignored. The names of a certificate (`tls_client_auth_...`) are also ignored if they are
        empty, or if the method is not `tls_client_auth`.

        Arguments:
            metadata: a parsed JSON object with `client_id`. Default of `token_endpoint_auth_method`:
                `client_secret_basic`.
            drafts: also accept names from drafts of RFC 8705. `tls_client_auth_root_dn` and
                `tls_client_auth_issuer_dn`, which restrict a client to one CA, are always rejected.
            trust_store: see `RegisteredClient`.

        Raises `RegistrationError`.

        Example: `RegisteredClient.from_metadata(json.loads(text))`
        """
        options.boolean("drafts", drafts)
        if not isinstance(metadata, Mapping):
            raise RegistrationError(
                f"metadata is a {type(metadata).__name__}: expected a mapping, for example a parsed JSON object"
            )
        given = dict(metadata)
        for name in _DRAFT_RESTRICTIONS:
            if given.get(name) is not None:
                raise RegistrationError.of(
                    given.get("client_id"),
                    f"{name} is from a draft of RFC 8705 and is not supported; give the client a trust_store instead",
                )
        if drafts:
            _rename_draft_members(given)
        members = {name: given[name] for name in _MEMBERS if given.get(name) is not None}
        method = members.setdefault("token_endpoint_auth_method", "client_secret_basic")
        if "client_id" not in members:
            raise RegistrationError(
                "the metadata has no client_id; expected a mapping, for example {'client_id': 'billing'}"
            )
        members = {
            name: value for name, value in members.items() if name not in _SUBJECTS or (method == PKI and value != "")
        }
        return cls(**members, trust_store=trust_store)


_MEMBERS = ("client_id", "token_endpoint_auth_method", *_SUBJECTS, "jwks", "jwks_uri", _BOUND)


def _rename_draft_members(given: dict[str, Any]) -> None:
    """Replace the names of drafts by the names of RFC 8705, in place.

    Raises `RegistrationError` if both names are present with different values.
    """
    if given.get("token_endpoint_auth_method") == _DRAFT_SELF_SIGNED:
        given["token_endpoint_auth_method"] = SELF_SIGNED
    if _DRAFT_BOUND in given and given.setdefault(_BOUND, given[_DRAFT_BOUND]) != given[_DRAFT_BOUND]:
        reason = f"{_DRAFT_BOUND} and {_BOUND} have different values; expected only {_BOUND}"
        raise RegistrationError.of(given.get("client_id"), reason)
