"""Defines the JWT profiles, and makes a profile stricter by arguments. docs/tokens.md describes the profiles."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Literal

from mtls_middleware import options
from mtls_middleware.errors import ConfigurationError
from mtls_middleware.jwks import ALGORITHMS
from mtls_middleware.resource_server.claim_names import ClaimNames
from mtls_middleware.resource_server.claims import media_type

Profile = Literal["rfc9068", "fapi2", "without_explicit_typing"]

# The claims that RFC 9068 2.2 requires.
_RFC9068 = frozenset({"iss", "exp", "aud", "sub", "client_id", "iat", "jti"})
# The claims that are always required: `iss` and `aud` (RFC 8725 3.8 and 3.9), and `exp`.
_ALWAYS = frozenset({"iss", "exp", "aud"})
# Default and maximum leeway in seconds. The clocks of servers in one deployment differ by a few seconds. FAPI 2.0
# requires servers to accept a difference of 10 seconds, and to reject a difference of 60 seconds.
LEEWAY, MAX_LEEWAY = 10, 60


@dataclass(frozen=True, slots=True)
class Rules:
    """The rules for JWTs.

    Attributes:
        algorithms: the accepted signature algorithms.
        typ: the accepted values of the header parameter `typ`, in the form of `media_type`. `None` stands for a JWT
            without `typ`.
        required: the required claims.
        min_leeway, max_leeway: the range that the profile allows for `leeway`, in seconds.
        leeway: the tolerance for clocks that differ, in seconds.
    """

    algorithms: frozenset[str]
    typ: frozenset[str | None]
    required: frozenset[str]
    min_leeway: float
    max_leeway: float
    leeway: float = LEEWAY


PROFILES: dict[Profile, Rules] = {
    "rfc9068": Rules(ALGORITHMS, frozenset({"at+jwt"}), _RFC9068, 0, MAX_LEEWAY),
    # FAPI 2.0 5.3.4 and 5.4 allow only three algorithms and only bound tokens, so `cnf` is required even if the layer
    # has binding="when_present". Ed25519 is another name of EdDSA with such a key (RFC 9864).
    "fapi2": Rules(
        frozenset({"PS256", "ES256", "EdDSA", "Ed25519"}),
        frozenset({"at+jwt"}),
        _RFC9068 | {"cnf"},
        LEEWAY,
        MAX_LEEWAY - 1,
    ),
    # client_id is required, because ID tokens do not have this claim. jwt_tokens.py also rejects the claims of ID
    # tokens.
    "without_explicit_typing": Rules(ALGORITHMS, frozenset({"at+jwt", "jwt"}), _ALWAYS | {"client_id"}, 0, MAX_LEEWAY),
}


def rules(
    profile: Profile | None,
    *,
    algorithms: Collection[str] | None,
    leeway: float | None,
    typ: Collection[str | None] | None,
    required_claims: Collection[str] | None,
    names: ClaimNames | None = None,
) -> Rules:
    """Return the rules of a profile, changed by the other arguments.

    With a profile, the other arguments can make the rules only stricter. Without a profile, they replace the defaults,
    which are those of RFC 9068. If `names` contains a different name for the audience or the client's id, that claim is
    required instead of `aud` or `client_id`. Raises `ConfigurationError`.
    """
    if profile is not None and (not isinstance(profile, str) or profile not in PROFILES):
        raise ConfigurationError(f"profile={profile!r}: expected one of {', '.join(map(repr, PROFILES))}")
    base = PROFILES[profile or "rfc9068"]
    for name, values, example in (
        ("algorithms", algorithms, "ES256"),
        ("typ", _without_none(typ), "at+jwt"),
        ("required_claims", required_claims, "acr"),
    ):
        if values is not None:
            options.strings(name, values, f'"{example}"')
    accepted = base.algorithms if algorithms is None else frozenset(algorithms)
    if not accepted or not accepted <= base.algorithms:
        expected = ", ".join(sorted(base.algorithms))
        raise ConfigurationError(f"algorithms={algorithms!r}: expected one or more of {expected}")
    if typ is not None and not typ:
        raise ConfigurationError(
            "typ is empty, so every token would be rejected; expected a list, for example ['at+jwt']"
        )
    types = base.typ if typ is None else frozenset(None if each is None else media_type(each) for each in typ)
    if None in types and not (names is not None and names.distinguishes_access_tokens and profile is None):
        raise ConfigurationError(
            "None in typ= accepts tokens without typ, such as ID tokens; omit profile=, and give claims= with a claim "
            "that only access tokens have, for example claims={'token_use': 'access'}"
        )
    if profile is not None and not types <= base.typ:
        expected = ", ".join(sorted(map(str, base.typ)))
        raise ConfigurationError(f"typ={typ!r} with profile={profile!r}: expected one or more of {expected}")
    required = base.required if required_claims is None else frozenset(required_claims) | _ALWAYS
    if names is not None and profile is None:
        if "aud" not in (required_claims or ()):
            required -= {"aud"}
        required |= {names.audience_claim}
        if required_claims is None and names.client_id != ("client_id",):
            required -= {"client_id"}
    if profile is not None:
        required |= base.required
    return Rules(accepted, types, required, base.min_leeway, base.max_leeway, _leeway(leeway, base))


def _without_none(typ: Any) -> Any:
    """Return a list without the value `None`, which stands for an absent `typ`.

    Any other argument is returned unchanged.
    """
    is_list = isinstance(typ, Collection) and not isinstance(typ, (str, bytes))
    return [each for each in typ if each is not None] if is_list else typ


def _leeway(leeway: float | None, base: Rules) -> float:
    return options.seconds("leeway", LEEWAY if leeway is None else leeway, base.min_leeway, base.max_leeway, LEEWAY)
