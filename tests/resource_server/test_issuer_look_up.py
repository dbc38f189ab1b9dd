"""`TrustedIssuers(look_up=...)`: issuers that are unknown at start."""

import logging
from datetime import timedelta
from typing import Any

import pytest

from mtls_middleware.effects import BlockingDriver
from mtls_middleware.errors import ConfigurationError, Refused, Unavailable
from mtls_middleware.resource_server import JWTAccessTokens, TrustedIssuers
from mtls_middleware.sources import ServerTLS
from mtls_middleware.testing import IssuedCertificate, TokenIssuer
from tests.gateways import Request, both_gateways
from tests.key_server import KeyServer
from tests.layers.clock import Clock, clock
from tests.layers.test_validity import Layers
from tests.resource_server import forge

__all__ = ["clock"]

TENANTS = {name: TokenIssuer(f"https://{name}.test") for name in ("a", "b")}
STRANGER = TokenIssuer("https://stranger.test")


class Directory:
    """A function that looks up tenants, and the issuers that it was called with."""

    def __init__(self, *tenants: TokenIssuer) -> None:
        self.calls: list[str] = []
        self.members = {each.issuer: each.access_tokens() for each in tenants or TENANTS.values()}

    def __call__(self, issuer: str) -> JWTAccessTokens | None:
        self.calls.append(issuer)
        return self.members.get(issuer)

    async def awaited(self, issuer: str) -> JWTAccessTokens | None:
        return self(issuer)


def looking_up(gateway: str, directory: Directory, *members: Any) -> TrustedIssuers:
    look_up: Any = directory.awaited if gateway == "asgi" else directory
    return TrustedIssuers(members, look_up=look_up)


def layers(gateway: str, tokens: Any, **options: Any) -> Layers:
    return Layers(gateway, lambda module, app: module.protect(app, source=ServerTLS(), tokens=tokens, **options))


def request(issuer: TokenIssuer, client: IssuedCertificate, **options: Any) -> Request:
    return Request(tls=client, headers=[("Authorization", "Bearer " + issuer.token(certificate=client, **options))])


@both_gateways
def test_an_issuer_is_looked_up_once_for_many_tokens(gateway: str, mtls_client: IssuedCertificate) -> None:
    directory = Directory()
    app = layers(gateway, looking_up(gateway, directory))
    for _ in range(3):
        for tenant in TENANTS.values():
            assert app.send(request(tenant, mtls_client)).status == 200
    assert sorted(directory.calls) == [each.issuer for each in TENANTS.values()]


@both_gateways
def test_an_unknown_issuer_costs_one_look_up_and_no_key_is_fetched(
    gateway: str, mtls_client: IssuedCertificate
) -> None:
    directory = Directory()
    with KeyServer(STRANGER.jwks) as server:
        app = layers(gateway, looking_up(gateway, directory))
        for number in range(5):
            token = request(STRANGER, mtls_client, claims={"jti": str(number)}, headers={"jku": server.url})
            result = app.send(token)
            assert (result.status, result.error) == (401, "invalid_token")
        assert server.requests == 0
    assert directory.calls == [STRANGER.issuer]


@both_gateways
def test_members_are_not_looked_up(gateway: str, mtls_client: IssuedCertificate) -> None:
    directory = Directory(TENANTS["b"])
    app = layers(gateway, looking_up(gateway, directory, TENANTS["a"].access_tokens()))
    assert app.send(request(TENANTS["a"], mtls_client)).status == 200
    assert app.send(Request(tls=mtls_client, headers=[("Authorization", "Bearer opaque")])).status == 401
    assert directory.calls == []
    assert app.send(request(TENANTS["b"], mtls_client)).status == 200
    assert directory.calls == [TENANTS["b"].issuer]


@both_gateways
def test_a_removed_issuer_is_rejected_after_ten_minutes(
    gateway: str, mtls_client: IssuedCertificate, clock: Clock
) -> None:
    directory = Directory()
    app = layers(gateway, looking_up(gateway, directory))
    token = request(TENANTS["a"], mtls_client, lifetime=timedelta(hours=1))
    assert app.send(token).status == 200
    directory.members.clear()
    for seconds, expected in ((0, 200), (299, 200), (299, 200), (3, 401)):
        clock.now += seconds
        assert app.send(token).status == expected
    assert directory.calls == [TENANTS["a"].issuer] * 2


@both_gateways
def test_a_new_issuer_is_accepted_after_half_a_minute(
    gateway: str, mtls_client: IssuedCertificate, clock: Clock
) -> None:
    directory = Directory(TENANTS["b"])
    app = layers(gateway, looking_up(gateway, directory))
    token = request(TENANTS["a"], mtls_client)
    assert app.send(token).status == 401
    directory.members[TENANTS["a"].issuer] = TENANTS["a"].access_tokens()
    assert app.send(token).status == 401
    clock.now += 31
    assert app.send(token).status == 200


@both_gateways
def test_a_clock_that_is_set_back_makes_no_result_last_longer(
    gateway: str, mtls_client: IssuedCertificate, clock: Clock
) -> None:
    directory = Directory()
    app = layers(gateway, looking_up(gateway, directory))
    token = request(TENANTS["a"], mtls_client, lifetime=timedelta(hours=1))
    clock.now += 1_000
    assert app.send(token).status == 200
    directory.members.clear()
    clock.now -= 900
    assert app.send(token).status == 401


@both_gateways
def test_a_look_up_that_fails_is_a_503_and_is_tried_again(
    gateway: str, mtls_client: IssuedCertificate, caplog: pytest.LogCaptureFixture
) -> None:
    directory, failing = Directory(), [True]

    def look_up(issuer: str) -> Any:
        if failing:
            raise OSError("database password")
        return directory(issuer)

    app = layers(gateway, TrustedIssuers(look_up=look_up))
    result = app.send(request(TENANTS["a"], mtls_client))
    assert result.status == 503
    assert "look_up= of TrustedIssuers failed: OSError" in caplog.text
    assert "password" not in caplog.text
    failing.clear()
    assert app.send(request(TENANTS["a"], mtls_client)).status == 200


@both_gateways
@pytest.mark.parametrize("error", [Unavailable("down", retry_after=7), Refused("invalid_token", "not this tenant")])
def test_a_rejection_by_the_look_up_is_the_response(
    gateway: str, error: Refused, mtls_client: IssuedCertificate
) -> None:
    def look_up(_issuer: str) -> Any:
        raise error

    expected = 503 if isinstance(error, Unavailable) else 401
    assert layers(gateway, TrustedIssuers(look_up=look_up)).send(request(TENANTS["a"], mtls_client)).status == expected


@both_gateways
@pytest.mark.parametrize("found", [True, "https://a.test", STRANGER.access_tokens(), JWTAccessTokens])
def test_a_validator_of_another_issuer_accepts_nothing_and_is_logged(
    gateway: str, found: Any, mtls_client: IssuedCertificate, caplog: pytest.LogCaptureFixture
) -> None:
    app = layers(gateway, TrustedIssuers(look_up=lambda _: found))
    for _ in range(2):
        result = app.send(request(TENANTS["a"], mtls_client))
        assert (result.status, result.reached) == (401, False)
    assert caplog.text.count("for another issuer, or no validator") == 1


@both_gateways
def test_another_spelling_of_a_known_issuer_is_not_trusted(gateway: str, mtls_client: IssuedCertificate) -> None:
    directory = Directory()
    app = layers(gateway, TrustedIssuers(look_up=lambda issuer: directory(issuer.lower())))
    assert app.send(request(TENANTS["a"], mtls_client, claims={"iss": "HTTPS://A.TEST"})).status == 401
    assert app.send(request(TENANTS["a"], mtls_client)).status == 200


@both_gateways
def test_a_signature_of_another_tenant_is_rejected(gateway: str, mtls_client: IssuedCertificate) -> None:
    forged = TokenIssuer(TENANTS["a"].issuer)
    app = layers(gateway, looking_up(gateway, Directory()))
    assert app.send(request(forged, mtls_client)).status == 401
    assert app.send(request(TENANTS["a"], mtls_client)).status == 200


@both_gateways
@pytest.mark.parametrize("issuer", [1, None, [], {}, "x" * 1_025, "", "a\0b", "a\nb", "\ud800", "\u00e9"])
def test_an_issuer_that_is_no_short_string_is_not_looked_up(
    gateway: str, issuer: Any, mtls_client: IssuedCertificate
) -> None:
    directory = Directory()
    app = layers(gateway, looking_up(gateway, directory))
    assert app.send(request(TENANTS["a"], mtls_client, claims={"iss": issuer})).status == 401
    assert directory.calls in ([], [""])


def naming(issuer: str) -> str:
    """Return an unsigned JWT with this `iss`."""
    return f"{forge.signing_input({'alg': 'none'}, {'iss': issuer})}.AA"


def test_endless_issuers_need_no_memory_without_end() -> None:
    directory = Directory()
    tokens = TrustedIssuers(look_up=directory)
    for number in range(3_000):
        text = naming(f"https://{number}.test/{'x' * 900}")
        with pytest.raises(Refused):
            BlockingDriver().run(tokens.validate(text, 1.0))
    assert len(directory.calls) == 3_000
    assert len(tokens.caches[0]) == 0
    tokens._unknown_issuers.memory.limit = 100_000
    for number in range(3_000, 4_000):
        text = naming(f"https://{number}.test/{'x' * 900}")
        with pytest.raises(Refused):
            BlockingDriver().run(tokens.validate(text, 1.0))
    assert tokens._unknown_issuers.memory.size <= 100_000


@both_gateways
def test_tokens_of_looked_up_issuers_count_towards_the_memory_of_the_stack(
    gateway: str, mtls_client: IssuedCertificate
) -> None:
    directory = Directory()
    app = layers(gateway, looking_up(gateway, directory), cache_size=200_000)
    assert app.send(request(TENANTS["a"], mtls_client)).status == 200
    memory = app._made._stack._cache._entries.memory
    assert directory.members[TENANTS["a"].issuer]._cache.memory is memory


@pytest.mark.parametrize("given", [{}, {"members": []}, {"look_up": "x"}, {"members": None, "look_up": len}])
def test_no_member_and_no_function_is_an_error_at_construction(given: Any) -> None:
    with pytest.raises(ConfigurationError):
        TrustedIssuers(**given)


def test_an_async_function_under_wsgi_is_an_error(
    mtls_client: IssuedCertificate, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR)
    directory = Directory()
    app = layers("wsgi", TrustedIssuers(look_up=directory.awaited))
    assert app.send(request(TENANTS["a"], mtls_client)).status == 500
    assert "is async, and WSGI cannot await" in caplog.text
