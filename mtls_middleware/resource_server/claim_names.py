"""`ClaimNames`: where an issuer writes scopes, the client and the audience, and which values its access tokens have.

The defaults are those of RFC 9068. docs/issuers.md describes the claims of other issuers. This module performs no I/O
and reads no clock.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

from mtls_middleware import options
from mtls_middleware.errors import ConfigurationError
from mtls_middleware.resource_server.claims import has_audience, reject_token, scope_values

ClaimValue = str | int | bool

# Claims that ID tokens also have, so they do not distinguish an access token from an ID token: the claims of OpenID
# Connect Core 2 and 5.1, and claims that common issuers add.
_IN_ID_TOKENS = frozenset(
    (  # noqa: SIM905 (a list literal would have 44 lines)
        "iss sub aud exp nbf iat auth_time nonce acr amr azp at_hash c_hash sid jti name given_name family_name "
        "middle_name nickname preferred_username profile picture website email email_verified gender birthdate "
        "zoneinfo locale phone_number phone_number_verified address updated_at tid oid ver uti upn roles groups "
        "realm_access resource_access cognito:groups cognito:username"
    ).split()
)


@dataclass(frozen=True, slots=True)
class ClaimNames:
    """The names and values of claims that a validator reads.

    Attributes:
        audiences: the identifiers of this resource. A token must contain at least one of them.
        audience_claim: the name of the claim that contains the audience.
        scope: the names of the claims that contain scopes; `None`: only `scope`, which must be a string (RFC 9068
            2.2.3).
        client_id: the names of the claims that contain the client's id. If several of them are present, their values
            must be equal.
        values: the accepted values of further claims.
    """

    audiences: frozenset[str]
    audience_claim: str = "aud"
    scope: tuple[str, ...] | None = None
    client_id: tuple[str, ...] = ("client_id",)
    values: Mapping[str, tuple[ClaimValue, ...]] = field(default_factory=dict)

    @property
    def distinguishes_access_tokens(self) -> bool:
        """Whether `values` has a claim that ID tokens do not have."""
        return not self.values.keys() <= _IN_ID_TOKENS

    def check(self, claims: Mapping[str, Any]) -> None:
        """Raises `Refused("invalid_token")` if the audience or another value is not accepted."""
        if not has_audience(claims, self.audiences, self.audience_claim):
            expected = tuple(sorted(self.audiences))
            listed = " or ".join(map(ascii, expected))
            reject_token(
                f"the token is for another audience; expected {listed} in {self.audience_claim}",
                found={"aud": claims.get(self.audience_claim)},
                expected={"aud": expected if len(expected) > 1 else expected[0]},
            )
        for name, accepted in self.values.items():
            found = claims.get(name)
            # The types are compared, too, because in Python, True equals 1.
            if not any(type(found) is type(each) and found == each for each in accepted):
                reject_token(f"{name} has another value than claims= accepts")

    def scopes_of(self, claims: Mapping[str, Any]) -> frozenset[str]:
        """Return the scopes of a token. Raises `Refused("invalid_token")` if a claim has the wrong type."""
        if self.scope is None:
            return scope_values(claims, "scope", lists=False)
        return frozenset[str]().union(*(scope_values(claims, name, lists=True) for name in self.scope))

    def client_id_of(self, claims: Mapping[str, Any]) -> str | None:
        """Return the client's id, or `None` if the token has no client id.

        Raises `Refused("invalid_token")` if a claim is not a string, or if two claims differ.
        """
        client_id: str | None = None
        for name in self.client_id:
            if name not in claims:
                continue
            value = claims[name]
            if not isinstance(value, str):
                reject_token(f"{name} is not a string")
            if client_id is not None and value != client_id:
                present = [each for each in self.client_id if each in claims]
                reject_token(f"{' and '.join(present)} have different values; expected one client")
            client_id = value
        return client_id


def claim_names(
    *,
    audience: str | Collection[str] | None,
    audience_claim: str = "aud",
    scope_claims: Collection[str] | None = None,
    client_id_claims: Collection[str] | None = None,
    claims: Mapping[str, ClaimValue | Collection[ClaimValue]] | None = None,
    profile: str | None = None,
) -> ClaimNames:
    """Check the arguments of a validator, and return them as `ClaimNames`. Raises `ConfigurationError`.

    With a `profile`, the arguments can only make the rules stricter. `audience`: `None` if the caller requires no
    audience.
    """
    audiences = [] if audience is None else _audiences(audience)
    options.string("audience_claim", audience_claim, "aud")
    scope = None if scope_claims is None else _names("scope_claims", scope_claims, "scp")
    client_id = ("client_id",) if client_id_claims is None else _names("client_id_claims", client_id_claims, "azp")
    if profile is not None:
        _check_profile(profile, audience_claim, scope, client_id)
    return ClaimNames(frozenset(audiences), audience_claim, scope, client_id, _values(claims or {}))


_AUDIENCE = '"https://api.example"'


def _audiences(audience: str | Collection[str]) -> list[str]:
    found = [audience] if isinstance(audience, str) else options.string_list("audience", audience, _AUDIENCE)
    if not found:
        raise ConfigurationError(f"audience={audience!r}: expected one or more identifiers, for example {_AUDIENCE}")
    for each in found:
        options.string("audience", each, "https://api.example")
    return found


def _names(argument: str, given: Collection[str], example: str) -> tuple[str, ...]:
    names = tuple(options.string_list(argument, given, f'"{example}"'))
    if not names or "" in names:
        raise ConfigurationError(f"{argument}={given!r}: expected names of claims, for example [{example!r}]")
    return names


def _check_profile(
    profile: str, audience_claim: str, scope: tuple[str, ...] | None, client_id: tuple[str, ...]
) -> None:
    """Raises `ConfigurationError` if an argument accepts a token that the profile rejects."""
    given = {
        f"audience_claim={audience_claim!r}": audience_claim != "aud",
        f"scope_claims={scope!r}": scope is not None,
        f"client_id_claims={client_id!r}": "client_id" not in client_id,
    }
    for argument, widens in given.items():
        if widens:
            raise ConfigurationError(
                f"{argument} with profile={profile!r}: it would accept tokens that the profile rejects; omit profile=, "
                "and see docs/issuers.md"
            )


def _values(given: Mapping[str, Any]) -> dict[str, tuple[ClaimValue, ...]]:
    if not isinstance(given, Mapping) or not all(isinstance(name, str) and name for name in given):
        raise ConfigurationError(f"claims={given!r}: expected a mapping, for example {{'token_use': 'access'}}")
    found: dict[str, tuple[ClaimValue, ...]] = {}
    for name, value in given.items():
        accepted = (value,) if isinstance(value, (str, int)) else value
        is_list = isinstance(accepted, Collection) and not isinstance(accepted, (bytes, Mapping))
        if not is_list or not accepted or not all(isinstance(each, (str, int)) for each in accepted):
            raise ConfigurationError(
                f"claims={{{name!r}: {value!r}}}: expected a string, an integer or a boolean, or a list of them"
            )
        found[name] = cast("tuple[ClaimValue, ...]", tuple(accepted))
    return found
