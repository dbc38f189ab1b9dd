"""The profiles of access tokens, as a table: what each admits, and what arguments beside it may still change.

Must never know: a token. Words and reasons for users are in docs/tokens.md.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

from mtls_middleware.errors import ConfigurationError
from mtls_middleware.jwks import ALGORITHMS
from mtls_middleware.resource_server.claims import check_texts, media_type

Profile = Literal["rfc9068", "fapi2", "without_explicit_typing"]

# RFC 9068 2.2: what every JWT access token holds.
_RFC9068 = frozenset({"iss", "exp", "aud", "sub", "client_id", "iat", "jti"})
# What no JWT does without here: RFC 8725 3.8 and 3.9, and an end.
_ALWAYS = frozenset({"iss", "exp", "aud"})
# Clocks of servers in one deployment differ by a few seconds; FAPI 2.0 asks to accept 10 and to refuse 60.
LEEWAY, MOST_LEEWAY = 10, 60


@dataclass(frozen=True, slots=True)
class Rules:
    """Which tokens come into question; `typ` in the form of `media_type`, `leeway` in seconds."""

    algorithms: frozenset[str]
    typ: frozenset[str]
    required: frozenset[str]
    least_leeway: float
    most_leeway: float
    leeway: float = LEEWAY


PROFILES: dict[Profile, Rules] = {
    "rfc9068": Rules(ALGORITHMS, frozenset({"at+jwt"}), _RFC9068, 0, MOST_LEEWAY),
    # FAPI 2.0 5.3.4, 5.4: three algorithms, and a token that is bound, whatever binding= says: it must have a cnf.
    "fapi2": Rules(
        frozenset({"PS256", "ES256", "EdDSA"}), frozenset({"at+jwt"}), _RFC9068 | {"cnf"}, LEEWAY, MOST_LEEWAY - 1
    ),
    # client_id is what no ID token has; signed.py refuses what they do have.
    "without_explicit_typing": Rules(ALGORITHMS, frozenset({"at+jwt", "jwt"}), _ALWAYS | {"client_id"}, 0, MOST_LEEWAY),
}


def rules(
    profile: Profile | None,
    *,
    algorithms: Collection[str] | None,
    leeway: float | None,
    typ: Collection[str] | None,
    required_claims: Collection[str] | None,
) -> Rules:
    """A profile with what else was given. Without one, RFC 9068's values are mere defaults.

    Beside a profile, arguments may only narrow it: its name is a promise. Raises `ConfigurationError`.
    """
    if profile is not None and (not isinstance(profile, str) or profile not in PROFILES):
        raise ConfigurationError(f"profile={profile!r}: one of {', '.join(map(repr, PROFILES))}")
    base = PROFILES[profile or "rfc9068"]
    for name, given, example in (
        ("algorithms", algorithms, "ES256"),
        ("typ", typ, "at+jwt"),
        ("required_claims", required_claims, "acr"),
    ):
        if given is not None:
            check_texts(name, given, example)
    chosen = base.algorithms if algorithms is None else frozenset(algorithms)
    if not chosen or not chosen <= base.algorithms:
        raise ConfigurationError(f"algorithms={algorithms!r}: some of {', '.join(sorted(base.algorithms))}")
    if typ is not None and not typ:
        raise ConfigurationError("typ is empty: no token could be accepted; the default is ('at+jwt',)")
    types = base.typ if typ is None else frozenset(map(media_type, typ))
    if profile is not None and not types <= base.typ:
        raise ConfigurationError(f"typ={typ!r} beside profile={profile!r}: some of {', '.join(sorted(base.typ))}")
    required = base.required if required_claims is None else frozenset(required_claims) | _ALWAYS
    if profile is not None:
        required |= base.required
    return Rules(chosen, types, required, base.least_leeway, base.most_leeway, _leeway(leeway, base))


def _leeway(given: float | None, base: Rules) -> float:
    if given is None:
        return float(LEEWAY)
    if isinstance(given, bool) or not isinstance(given, (int, float)):
        raise ConfigurationError(f"leeway={given!r}: seconds, for example {LEEWAY}")
    if not base.least_leeway <= given <= base.most_leeway:
        raise ConfigurationError(f"leeway={given!r}: seconds, from {base.least_leeway} to {base.most_leeway}")
    return float(given)
