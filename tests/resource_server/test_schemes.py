"""The authentication schemes that a token layer accepts, and the other arguments of `protect` about tokens."""

from typing import Any

import pytest

from mtls_middleware import ConfigurationError
from mtls_middleware.sources import ServerTLS
from mtls_middleware.testing import IssuedCertificate, TokenIssuer
from tests.attacks.test_fresh import relay
from tests.gateways import MODULES, Request, both_gateways, send
from tests.layers.world import World

BOTH = ("Bearer", "mtls_pop")


@pytest.fixture(scope="module")
def world(mtls_client: IssuedCertificate, mtls_other_client: IssuedCertificate, mtls_issuer: TokenIssuer) -> World:
    return World(mtls_client, mtls_other_client, mtls_issuer)


def status(gateway: str, world: World, authorization: str, *, client: Any = None, **options: Any) -> int:
    headers = [("Authorization", authorization)]
    return send(gateway, world.tokens(**options), Request(tls=client or world.client, headers=headers)).status


@both_gateways
@pytest.mark.parametrize(
    ("schemes", "scheme", "expected"),
    [
        (("Bearer",), "Bearer", 200),
        (("Bearer",), "mtls_pop", 401),
        (("mtls_pop",), "mtls_pop", 200),
        (("mtls_pop",), "MTLS_POP", 200),
        (("mtls_pop",), "mtls_pop   ", 200),
        (("mtls_pop",), "Bearer", 401),
        (BOTH, "Bearer", 200),
        (BOTH, "mtls_pop", 200),
        (["mtls_pop", "Bearer"], "bearer", 200),
        (BOTH, "DPoP", 401),
        (BOTH, "mtls-pop", 401),
        (BOTH, "mtls_popx", 401),
        (BOTH, "PoP", 401),
        (BOTH, "mtls_pop Bearer", 400),
        (BOTH, "Bearer x, mtls_pop", 400),
    ],
)
def test_only_the_given_schemes_are_accepted(
    gateway: str, world: World, schemes: Any, scheme: str, expected: int
) -> None:
    token = world.issuer.token(certificate=world.client)
    assert status(gateway, world, f"{scheme} {token}", schemes=schemes) == expected
    if expected == 200:
        assert status(gateway, world, f"{scheme} {token}", schemes=schemes, client=world.other) == 401


@both_gateways
def test_an_unbound_token_is_no_proof_of_possession(gateway: str, world: World) -> None:
    """With `binding="when_present"`, an unbound token is accepted with the scheme Bearer only."""
    token = world.issuer.token()
    options = {"schemes": BOTH, "binding": "when_present"}
    assert status(gateway, world, f"Bearer {token}", **options) == 200
    assert status(gateway, world, f"mtls_pop {token}", **options) == 401
    bound = world.issuer.token(certificate=world.client)
    without = send(
        gateway, world.tokens(**options, required=False), Request(headers=[("Authorization", f"mtls_pop {bound}")])
    )
    assert without.status == 401


@both_gateways
def test_a_cached_decision_for_one_scheme_is_not_used_for_another(gateway: str, world: World) -> None:
    token, decided = world.issuer.token(), []
    app: Any = None

    def wrap(module: Any, application: Any) -> Any:
        nonlocal app
        app = app or world.tokens(schemes=BOTH, binding="when_present")(module, relay(module, decided))
        decided[:] = [application]
        return app

    for scheme, expected in [("Bearer", 200), ("Bearer", 200), ("mtls_pop", 401), ("Bearer", 200), ("mtls_pop", 401)]:
        request = Request(tls=world.client, headers=[("Authorization", f"{scheme} {token}")])
        assert send(gateway, wrap, request).status == expected


@both_gateways
@pytest.mark.parametrize(
    ("schemes", "challenges"),
    [(("Bearer",), ["Bearer"]), (("mtls_pop",), ["mtls_pop"]), (BOTH, list(BOTH))],
)
def test_the_challenge_names_each_accepted_scheme(
    gateway: str, world: World, schemes: Any, challenges: list[str]
) -> None:
    result = send(gateway, world.tokens(schemes=schemes), Request(tls=world.client))
    assert result.status == 401
    field = {name.lower(): value for name, value in result.headers}["www-authenticate"]
    assert field == ", ".join(f'{each} realm="protected"' for each in challenges)


@both_gateways
@pytest.mark.parametrize("schemes", [(), "Bearer", ("bearer",), ("Bearer", "Bearer"), ("DPoP",), ("Bearer", 1), None])
def test_other_schemes_are_an_error_at_construction(gateway: str, world: World, schemes: Any) -> None:
    with pytest.raises(ConfigurationError, match="schemes="):
        world.tokens(schemes=schemes)(MODULES[gateway], relay(MODULES[gateway], []))


@both_gateways
@pytest.mark.parametrize("given", [{"binding": "when_present"}, {"realm": "x"}, {"schemes": BOTH}, {"scopes": ["a"]}])
def test_an_argument_about_tokens_needs_tokens(gateway: str, given: Any) -> None:
    module = MODULES[gateway]
    with pytest.raises(ConfigurationError, match=f"^{next(iter(given))}= without tokens=.*tokens=JWTAccessTokens"):
        module.protect(relay(module, []), source=ServerTLS(), **given)


@both_gateways
@pytest.mark.parametrize(("required", "expected"), [(None, 403), (True, 403), (False, 200)])
def test_protect_without_tokens_requires_a_certificate_by_default(
    gateway: str, required: bool | None, expected: int
) -> None:
    result = send(gateway, lambda module, app: module.protect(app, source=ServerTLS(), required=required), Request())
    assert result.status == expected


@both_gateways
def test_protect_passes_on_the_realm(gateway: str, world: World) -> None:
    result = send(gateway, world.tokens(realm="billing"), Request(tls=world.client))
    assert {name.lower(): value for name, value in result.headers}["www-authenticate"] == 'Bearer realm="billing"'
