"""Opaque tokens: what an introspection server says of them, well and badly, through both gateways."""

import asyncio
import json
import logging
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtls_middleware import ConfigurationError, Refused
from mtls_middleware.effects import BlockingDriver
from mtls_middleware.errors import Unavailable
from mtls_middleware.resource_server import IntrospectedAccessTokens, JWTAccessTokens, MemoryAnswers
from mtls_middleware.testing import CertificateAuthority, IssuedCertificate
from tests.ids import shown
from tests.introspection_server import CLIENT_ID, CLIENT_SECRET, Behaviour, IntrospectionServer, says, send
from tests.key_server import KeyServer, die, raw
from tests.resource_server import forge
from tests.resource_server.stack import ASGIStack, Stack, WSGIStack

TOKEN = "2YotnFZFEjr1zCsicMWpAA"
BEARER = f"Bearer {TOKEN}"
ISSUER, AUDIENCE = "https://as.test", "https://api.test"


@pytest.fixture
def server() -> Iterator[IntrospectionServer]:
    with IntrospectionServer() as running:
        yield running


def asking(server: IntrospectionServer, **options: Any) -> IntrospectedAccessTokens:
    usual = {"endpoint": server.url, "client_id": CLIENT_ID, "client_secret": CLIENT_SECRET, "allow_http": True}
    return IntrospectedAccessTokens(**{**usual, "issuer": ISSUER, "audience": AUDIENCE, **options})


def active(certificate: IssuedCertificate | None = None, **changes: Any) -> dict[str, Any]:
    """A usual answer; `...` as a value leaves the member out."""
    members: dict[str, Any] = {
        "active": True,
        "token_type": "Bearer",
        "scope": "read write",
        "sub": "user",
        "client_id": "billing",
        "iss": ISSUER,
        "aud": AUDIENCE,
        "exp": int(time.time()) + 300,
    }
    if certificate is not None:
        members["cnf"] = {"x5t#S256": certificate.thumbprint}
    return {name: value for name, value in {**members, **changes}.items() if value is not ...}


def validate(tokens: Any, text: str = TOKEN, now: float | None = None) -> Any:
    return BlockingDriver().run(tokens.validate(text, time.time() if now is None else now))


# --- what a good answer gives ---


@pytest.mark.standard("A7", "F8", "Q1")
def test_the_four_outcomes_of_a_bound_opaque_token(
    server: IntrospectionServer,
    stack: type[Stack],
    mtls_client: IssuedCertificate,
    mtls_other_client: IssuedCertificate,
) -> None:
    server.tokens = {TOKEN: active(mtls_client), "unbound": active()}
    layers = stack(asking(server), scopes=["read"])
    good = layers.request(BEARER, certificate=mtls_client)
    assert (good.status, good.reached) == (200, True)
    assert good.token is not None
    assert (good.token.subject, good.token.client_id, good.token.bound) == ("user", "billing", True)
    assert good.token.scopes == {"read", "write"}
    for certificate, token in ((mtls_other_client, TOKEN), (None, TOKEN), (mtls_client, "unbound")):
        outcome = layers.request(f"Bearer {token}", certificate=certificate)
        assert (outcome.status, outcome.error, outcome.reached) == (401, "invalid_token", False)


@pytest.mark.standard("A14")
def test_an_unbound_token_may_pass_where_binding_is_optional_and_lacking_exp_is_allowed(
    server: IntrospectionServer, stack: type[Stack], mtls_client: IssuedCertificate
) -> None:
    server.tokens = {TOKEN: {"active": True}}
    outcome = stack(asking(server), binding="when_present").request(BEARER, certificate=mtls_client)
    assert outcome.status == 200
    assert outcome.token is not None
    assert (outcome.token.bound, outcome.token.expires_at, outcome.token.subject) == (False, None, None)


@pytest.mark.standard("A21")
def test_scope_is_demanded_of_the_answer(
    server: IntrospectionServer, stack: type[Stack], mtls_client: IssuedCertificate
) -> None:
    server.tokens = {TOKEN: active(mtls_client)}
    outcome = stack(asking(server), scopes=["delete"]).request(BEARER, certificate=mtls_client)
    assert (outcome.status, outcome.error) == (403, "insufficient_scope")


# --- what goes over the wire ---


@pytest.mark.standard("F1", "F2")
def test_the_token_is_posted_as_a_form_and_we_authenticate_by_basic(
    server: IntrospectionServer, stack: type[Stack], mtls_client: IssuedCertificate
) -> None:
    token = "a+b/c=="  # every character that b64token has and a form encodes
    server.tokens = {token: active(mtls_client)}
    assert stack(asking(server)).request(f"Bearer {token}", certificate=mtls_client).status == 200
    (question,) = server.questions
    assert question.form == [("token", token), ("token_type_hint", "access_token")]
    assert question.caller == CLIENT_ID
    assert question.path == "/introspect"
    assert question.headers["Content-Type"] == "application/x-www-form-urlencoded"
    assert question.headers["Accept"] == "application/json"
    assert "Cookie" not in question.headers


@pytest.mark.standard("F2", "F7")
def test_we_can_authenticate_by_certificate_alone(
    stack: type[Stack], mtls_ca: CertificateAuthority, mtls_client: IssuedCertificate
) -> None:
    tls = mtls_ca.server_context(mtls_ca.server(), client_certificates="optional")
    with IntrospectionServer({TOKEN: active(mtls_client)}, tls=tls) as server:
        ours = mtls_ca.client_context(mtls_ca.issue(f"CN={CLIENT_ID}"))
        layers = stack(asking(server, client_secret=None, ssl_context=ours))
        assert layers.request(BEARER, certificate=mtls_client).status == 200
        (question,) = server.questions
        assert ("client_id", CLIENT_ID) in question.form
        assert "Authorization" not in question.headers
        without = stack(asking(server, client_secret=None, ssl_context=mtls_ca.client_context()))
        assert without.request(BEARER, certificate=mtls_client).status == 503


@pytest.mark.standard("F7")
def test_a_server_of_another_ca_is_not_asked(
    stack: type[Stack], mtls_ca: CertificateAuthority, mtls_client: IssuedCertificate
) -> None:
    stranger = CertificateAuthority()
    tls = stranger.server_context(stranger.server(), client_certificates="optional")
    with IntrospectionServer({TOKEN: active(mtls_client)}, tls=tls) as server:
        outcome = stack(asking(server, ssl_context=mtls_ca.client_context())).request(BEARER, certificate=mtls_client)
        assert (outcome.status, outcome.reached, server.questions) == (503, False, [])


def test_connections_are_kept_for_the_next_exchange_and_cookies_are_not(
    server: IntrospectionServer, mtls_client: IssuedCertificate
) -> None:
    def with_cookie(handler: Any) -> None:
        handler.send_response(200)
        for name, value in (("Content-Type", "application/json"), ("Set-Cookie", "a=b"), ("Content-Length", "16")):
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(b'{"active": true}')

    server.behaviour = with_cookie
    tokens = asking(server)
    for _ in range(5):
        assert validate(tokens).claims == {"active": True}
    assert len(server.connections) == 1

    async def many() -> None:
        layers = ASGIStack(tokens, binding="when_present")
        for _ in range(5):
            assert (await layers.asked(BEARER)).status == 200

    asyncio.run(many())
    asyncio.run(many())  # another event loop has connections of its own
    assert len(server.connections) == 3
    assert not any("Cookie" in question.headers for question in server.questions)


def test_a_connection_that_the_server_closed_meanwhile_costs_nobody_an_answer(
    server: IntrospectionServer, stack: type[Stack], mtls_client: IssuedCertificate
) -> None:
    server.tokens = {TOKEN: active(mtls_client)}
    layers = stack(asking(server))
    for _ in range(3):
        assert layers.request(BEARER, certificate=mtls_client).status == 200
        server.hang_up()


# --- what an answer may say, and what not ---


@pytest.mark.case("131")
@pytest.mark.standard("F3", "F4")
@pytest.mark.parametrize(
    "value", [False, "true", "True", 1, 1.0, None, [], [True], {}, {"active": True}, ...], ids=shown
)
def test_active_is_true_itself_or_the_token_is_refused(
    server: IntrospectionServer, stack: type[Stack], mtls_client: IssuedCertificate, value: Any
) -> None:
    server.tokens = {TOKEN: active(mtls_client, active=value)}
    outcome = stack(asking(server)).request(BEARER, certificate=mtls_client)
    assert (outcome.status, outcome.error, outcome.reached) == (401, "invalid_token", False)


@pytest.mark.case("132")
@pytest.mark.standard("F10", "F16", "Q3", "Q5", "Q9", "A16", "A18", "O12")
@pytest.mark.parametrize(
    "changes",
    [
        {"cnf": ...},
        {"cnf": None},
        {"cnf": {}},
        {"cnf": {"jkt": "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I"}},
        {"cnf": {"x5t#S256": "A" * 43}},
        {"exp": 1},
        {"exp": "4102444800"},
        {"exp": True},
        {"exp": None},
        {"exp": 10**400},
        {"nbf": 4102444800},
        {"iat": 4102444800},
        {"aud": "https://other.test"},
        {"aud": []},
        {"aud": None},
        {"aud": [AUDIENCE + "/"]},
        {"iss": ISSUER + "/"},
        {"iss": None},
        {"iss": [ISSUER]},
        {"token_type": "DPoP"},
        {"token_type": "N_A"},
        {"token_type": None},
        {"token_type": ["Bearer"]},
        {"token_use": "refresh_token"},
        {"typ": "Refresh"},
        {"scope": ["read"]},
        {"sub": 7},
        {"client_id": None},
        {"jti": {}},
    ],
    ids=shown,
)
def test_every_member_of_an_active_answer_is_looked_at(
    server: IntrospectionServer, stack: type[Stack], mtls_client: IssuedCertificate, changes: dict[str, Any]
) -> None:
    server.tokens = {TOKEN: active(mtls_client, **changes)}
    outcome = stack(asking(server), scopes=[]).request(BEARER, certificate=mtls_client)
    assert (outcome.status, outcome.error, outcome.reached) == (401, "invalid_token", False)


@pytest.mark.standard("Q5")
def test_two_confirmations_are_refused_though_the_certificate_fits(
    server: IntrospectionServer, stack: type[Stack], mtls_client: IssuedCertificate
) -> None:
    server.tokens = {TOKEN: active(mtls_client, cnf={"x5t#S256": mtls_client.thumbprint, "jkt": "x" * 43})}
    outcome = stack(asking(server)).request(BEARER, certificate=mtls_client)
    assert (outcome.status, outcome.error) == (401, "invalid_token")


@pytest.mark.parametrize(
    "changes",
    [
        {"token_type": "bearer"},
        {"token_type": ...},
        {"token_use": "access_token"},
        {"typ": "Bearer"},
        {"iss": ...},
        {"aud": ...},
        {"aud": ["https://other.test", AUDIENCE]},
        {"exp": ...},
        {"scope": ...},
        {"exp": 4102444800.5},
        {"username": "jane", "extension": {"deep": [1, 2]}},
    ],
    ids=shown,
)
def test_what_an_answer_may_leave_out_or_add(server: IntrospectionServer, changes: dict[str, Any]) -> None:
    server.tokens = {TOKEN: active(**changes)}
    assert validate(asking(server)).claims["active"] is True


def test_members_can_be_demanded(server: IntrospectionServer) -> None:
    server.tokens = {TOKEN: active(aud=...)}
    with pytest.raises(Refused, match="without aud") as refusal:
        validate(asking(server, required_claims=["aud", "exp"]))
    assert refusal.value.code == "invalid_token"


@pytest.mark.standard("O4", "O10")
def test_the_fapi_profile_wants_bound_tokens_whatever_binding_says(
    server: IntrospectionServer, stack: type[Stack], mtls_client: IssuedCertificate
) -> None:
    now = int(time.time())
    server.tokens = {
        "unbound": active(),
        "bound": active(mtls_client, iat=now + 8, nbf=now + 8),
        "ahead": active(mtls_client, iat=now + 61),
    }
    layers = stack(asking(server, profile="fapi2"), binding="when_present")
    statuses = [layers.request(f"Bearer {each}", certificate=mtls_client).status for each in server.tokens]
    assert statuses == [401, 200, 401]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
MEMBERS = st.fixed_dictionaries(
    {},
    optional={
        name: JSON | st.sampled_from([True, "Bearer", ISSUER, AUDIENCE, 4102444800, "read"])
        for name in (
            "active",
            "token_type",
            "scope",
            "sub",
            "client_id",
            "iss",
            "aud",
            "exp",
            "nbf",
            "iat",
            "cnf",
            "jti",
        )
    },
)


def test_whatever_the_server_answers_only_a_true_active_lets_anybody_in(server: IntrospectionServer) -> None:
    layers = WSGIStack(asking(server), binding="when_present")

    @settings(max_examples=100, deadline=None)
    @given(answer=MEMBERS | JSON | st.binary(max_size=40))
    def holds(answer: Any) -> None:
        server.behaviour = says(answer)
        outcome = layers.request(BEARER)
        assert outcome.status in (200, 401, 503)
        assert outcome.reached == (outcome.status == 200)
        if outcome.reached:
            assert answer["active"] is True
            assert answer.get("iss", ISSUER) == ISSUER
            assert answer.get("exp", 4102444800) > time.time() - 10

    holds()


# --- a server that fails ---


def endless(handler: Any) -> None:
    """100 MB, which nobody should read to the end."""
    handler.send_response(200)
    handler.send_header("Content-Type", "application/json")
    handler.send_header("Content-Length", str(100_000_000))
    handler.end_headers()
    for _ in range(100):
        handler.wfile.write(b" " * 1_000_000)


def moved(handler: Any) -> None:
    handler.send_response(307)
    handler.send_header("Location", handler.path)
    handler.send_header("Content-Length", "0")
    handler.end_headers()


def status(code: int) -> Behaviour:
    return lambda handler: send(handler, code, b'{"active": true}' if code != 204 else b"")


GOOD = b'{"active": true}'
FAULTS: dict[str, Behaviour] = {
    "html": says(GOOD, "text/html"),
    "no type": says(GOOD, ""),
    "a signed answer": says(GOOD, "application/token-introspection+jwt"),
    "garbage": says(b"\xff\xfe{}"),
    "a list": says([{"active": True}]),
    "a text": says("active"),
    "nothing": says(b""),
    "half": says(b'{"active": true'),
    "two": says(b'{"active": true}{"active": true}'),
    "a name twice": says(b'{"active": false, "active": true}'),
    "NaN": says(b'{"active": true, "exp": NaN}'),
    "deep": says(b'{"active": true, "a": ' + b"[" * 30_000 + b"]" * 30_000 + b"}"),
    "UTF-16": says(GOOD.decode().encode("utf-16")),
    "no HTTP": raw(b"active: true\r\n\r\n"),
    "cut off": raw(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 99\r\n\r\n" + GOOD),
    "too much": endless,
    "redirect": moved,
    "dead": die,
    **{str(code): status(code) for code in (201, 204, 302, 400, 401, 403, 404, 405, 429, 500, 502, 503)},
}


@pytest.mark.case("133")
@pytest.mark.standard("F2", "F17", "A22")
@pytest.mark.parametrize("fault", FAULTS)
def test_a_server_that_fails_is_503_and_never_a_verdict(
    server: IntrospectionServer,
    stack: type[Stack],
    mtls_client: IssuedCertificate,
    fault: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    server.behaviour = FAULTS[fault]
    outcome = stack(asking(server), binding="when_present").request(BEARER, certificate=mtls_client)
    assert (outcome.status, outcome.reached, outcome.challenge) == (503, False, None)
    assert int(outcome.headers["retry-after"]) >= 1
    assert any(each.name == "mtls_middleware.opaque" and each.levelname == "ERROR" for each in caplog.records)
    assert TOKEN not in caplog.text
    assert "s3cret" not in caplog.text
    assert TOKEN.encode() not in outcome.body


@pytest.mark.standard("F17")
@pytest.mark.parametrize("fault", ["stalls", "drips"])
def test_a_server_that_is_slow_is_503_within_the_time_and_is_asked_once(
    server: IntrospectionServer, stack: type[Stack], mtls_client: IssuedCertificate, fault: str
) -> None:
    if fault == "stalls":
        server.stall = 30
    else:
        server.behaviour = raw(b"HTTP/1.1 200 OK\r\n", *[b"X-Slow: 1\r\n"] * 100, pause=0.1)
    start = time.monotonic()
    outcome = stack(asking(server, timeout=0.5)).request(BEARER, certificate=mtls_client)
    assert (outcome.status, outcome.reached) == (503, False)
    assert time.monotonic() - start < 5
    assert len(server.questions) == 1


def test_what_the_operator_is_to_change_is_in_the_log(
    server: IntrospectionServer, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(Unavailable):
        validate(asking(server, client_secret="an old one"))
    assert "check client_id and client_secret" in caplog.text
    server.behaviour = status(403)
    with pytest.raises(Unavailable):
        validate(asking(server))
    assert "does not let this client introspect" in caplog.text


def test_a_connection_that_breaks_is_tried_once_more(
    server: IntrospectionServer, stack: type[Stack], mtls_client: IssuedCertificate
) -> None:
    server.tokens = {TOKEN: active(mtls_client)}
    server.behaviours = [die]
    layers = stack(asking(server))
    assert layers.request(BEARER, certificate=mtls_client).status == 200
    assert len(server.questions) == 2
    server.behaviours = [die, die]
    assert layers.request(BEARER, certificate=mtls_client).status == 503
    assert len(server.questions) == 4


def test_nobody_at_the_address_is_503(stack: type[Stack], mtls_client: IssuedCertificate) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        tokens = IntrospectedAccessTokens(
            endpoint=f"http://127.0.0.1:{unused.getsockname()[1]}/",
            client_id=CLIENT_ID,
            client_secret=CLIENT_SECRET,
            allow_http=True,
        )
        assert stack(tokens).request(BEARER, certificate=mtls_client).status == 503


# --- many at once ---


@pytest.mark.parametrize("cached", [False, True])
def test_fifty_threads_ask_once_each_or_once_together_where_answers_are_remembered(
    server: IntrospectionServer, mtls_client: IssuedCertificate, cached: bool
) -> None:
    server.tokens = {TOKEN: active(mtls_client)}
    server.stall = 0.3
    tokens = asking(server, cache=MemoryAnswers() if cached else None)
    found: list[str] = []
    barrier = threading.Barrier(50)

    def one() -> None:
        barrier.wait()
        found.append(validate(tokens).subject)

    threads = [threading.Thread(target=one) for _ in range(50)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert found == ["user"] * 50
    assert len(server.questions) == (1 if cached else 50)


@pytest.mark.parametrize("cached", [False, True])
def test_two_hundred_tasks_do_not_block_the_event_loop(
    server: IntrospectionServer, mtls_client: IssuedCertificate, cached: bool
) -> None:
    server.tokens = {TOKEN: active(mtls_client)}
    server.stall = 1.0
    layers = ASGIStack(asking(server, cache=MemoryAnswers() if cached else None, timeout=20))
    gaps: list[float] = []

    async def watch() -> None:
        before = time.monotonic()
        while True:
            await asyncio.sleep(0.005)
            gaps.append(time.monotonic() - before)
            before = time.monotonic()

    async def all_of_them() -> list[int]:
        watcher = asyncio.create_task(watch())
        outcomes = await asyncio.gather(*(layers.asked(BEARER, certificate=mtls_client) for _ in range(200)))
        watcher.cancel()
        return [each.status for each in outcomes]

    assert asyncio.run(all_of_them()) == [200] * 200
    assert len(server.questions) == (1 if cached else 200)
    assert sorted(gaps)[len(gaps) // 2] < 0.05  # the machine may be busy; a loop that is blocked has no small gaps
    if cached:
        assert max(gaps) < 0.5  # half of the stall


def test_an_asker_that_goes_away_takes_nothing_from_the_others(
    server: IntrospectionServer, mtls_client: IssuedCertificate
) -> None:
    server.tokens = {TOKEN: active(mtls_client)}
    server.stall = 0.3
    layers = ASGIStack(asking(server, cache=MemoryAnswers()))

    async def two() -> int:
        first = asyncio.create_task(layers.asked(BEARER, certificate=mtls_client))
        await asyncio.sleep(0.05)
        second = asyncio.create_task(layers.asked(BEARER, certificate=mtls_client))
        await asyncio.sleep(0.05)
        first.cancel()
        return (await second).status

    assert asyncio.run(two()) == 200


# --- signed answers, RFC 9701 ---


def signed(answer: Any, header: dict[str, Any] | None = None, **changes: Any) -> bytes:
    usual = {"iss": ISSUER, "aud": CLIENT_ID, "iat": int(time.time()), "token_introspection": answer}
    claims = {name: value for name, value in {**usual, **changes}.items() if value is not ...}
    return forge.token({**forge.HEADER, "typ": "token-introspection+jwt", **(header or {})}, claims).encode()


SIGNED = "application/token-introspection+jwt"


@pytest.mark.standard("F12", "F15")
def test_a_signed_answer_is_read_from_its_inner_object(
    server: IntrospectionServer,
    stack: type[Stack],
    mtls_client: IssuedCertificate,
    mtls_other_client: IssuedCertificate,
) -> None:
    outer = {"cnf": {"x5t#S256": mtls_other_client.thumbprint}, "active": False, "scope": "admin"}
    server.behaviour = says(signed(active(mtls_client), **outer), SIGNED)
    layers = stack(asking(server, signed_by=forge.JWKS))
    outcome = layers.request(BEARER, certificate=mtls_client)
    assert outcome.status == 200
    assert outcome.token is not None
    assert outcome.token.scopes == {"read", "write"}
    assert layers.request(BEARER, certificate=mtls_other_client).status == 401
    assert server.questions[0].headers["Accept"] == SIGNED


@pytest.mark.standard("F15")
def test_a_confirmation_outside_of_the_inner_object_binds_nothing(
    server: IntrospectionServer, stack: type[Stack], mtls_client: IssuedCertificate
) -> None:
    server.behaviour = says(signed(active(), cnf={"x5t#S256": mtls_client.thumbprint}), SIGNED)
    outcome = stack(asking(server, signed_by=forge.JWKS)).request(BEARER, certificate=mtls_client)
    assert (outcome.status, outcome.error) == (401, "invalid_token")


@pytest.mark.standard("F13")
def test_a_signed_answer_about_a_token_that_is_not_for_us_is_inactive(
    server: IntrospectionServer, stack: type[Stack]
) -> None:
    server.behaviour = says(signed({"active": False}), SIGNED)
    outcome = stack(asking(server, signed_by=forge.JWKS), binding="when_present").request(BEARER)
    assert (outcome.status, outcome.error) == (401, "invalid_token")


NOT_SIGNED: dict[str, Any] = {
    "typ of an access token": lambda: (signed(active(), {"typ": "at+jwt"}), SIGNED),
    "typ JWT": lambda: (signed(active(), {"typ": "JWT"}), SIGNED),
    "for another client": lambda: (signed(active(), aud="other"), SIGNED),
    "for nobody": lambda: (signed(active(), aud=...), SIGNED),
    "of another issuer": lambda: (signed(active(), iss=ISSUER + "/"), SIGNED),
    "without iat": lambda: (signed(active(), iat=...), SIGNED),
    "of long ago": lambda: (signed(active(), iat=int(time.time()) - 61), SIGNED),
    "of the future": lambda: (signed(active(), iat=int(time.time()) + 60), SIGNED),
    "iat as text": lambda: (signed(active(), iat="now"), SIGNED),
    "without the inner object": lambda: (signed(...), SIGNED),
    "the inner object a list": lambda: (signed([active()]), SIGNED),
    "another signature": lambda: (signed(active())[:-6] + b"AAAAAA", SIGNED),
    "alg none": lambda: (signed(active(), {"alg": "none"}).rpartition(b".")[0] + b".", SIGNED),
    "an unknown key": lambda: (signed(active(), {"kid": "other"}), SIGNED),
    "plain JSON": lambda: (json.dumps(active()).encode(), "application/json"),
    "plain JSON under that name": lambda: (json.dumps(active()).encode(), SIGNED),
    "the JWT under another name": lambda: (signed(active()), "application/json"),
    "no ASCII": lambda: (b"\xff.\xff.\xff", SIGNED),
}


@pytest.mark.standard("F12", "F17")
@pytest.mark.parametrize("kind", NOT_SIGNED)
def test_an_answer_that_is_not_rightly_signed_is_no_answer(
    server: IntrospectionServer, stack: type[Stack], kind: str
) -> None:
    server.behaviour = says(*NOT_SIGNED[kind]())
    outcome = stack(asking(server, signed_by=forge.JWKS), binding="when_present").request(BEARER)
    assert (outcome.status, outcome.reached) == (503, False)


@pytest.mark.standard("F14")
def test_a_signed_answer_is_never_an_access_token(stack: type[Stack]) -> None:
    answer = signed(..., **forge.claims(iss=forge.ISSUER)).decode()
    plain = forge.token({**forge.HEADER, "typ": "at+jwt"}, forge.claims())
    layers = stack(forge.access_tokens(), binding="when_present")
    assert layers.request(f"Bearer {plain}").status == 200
    assert layers.request(f"Bearer {answer}").status == 401
    lenient = stack(forge.access_tokens(profile="without_explicit_typing"), binding="when_present")
    assert lenient.request(f"Bearer {answer}").status == 401


def test_the_keys_of_signed_answers_may_be_fetched(server: IntrospectionServer, stack: type[Stack]) -> None:
    server.behaviour = says(signed(active()), SIGNED)
    with KeyServer(forge.JWKS) as keys:
        layers = stack(asking(server, signed_by=keys.url), binding="when_present")
        assert [layers.request(BEARER).status for _ in range(3)] == [200] * 3
        assert keys.requests == 1
        keys.behaviour = die
        assert stack(asking(server, signed_by=keys.url), binding="when_present").request(BEARER).status == 503


@pytest.mark.standard("O7")
def test_the_fapi_profile_takes_fewer_signatures(server: IntrospectionServer) -> None:
    from mtls_middleware.testing import TokenIssuer

    other = TokenIssuer(ISSUER, audience=CLIENT_ID, algorithm="ES384")
    claims = {"token_introspection": active(cnf={})}
    server.behaviour = says(other.token(claims=claims, headers={"typ": "token-introspection+jwt"}).encode(), SIGNED)
    assert validate(asking(server, signed_by=other.jwks)).subject == "user"
    with pytest.raises(Unavailable):
        validate(asking(server, signed_by=other.jwks, profile="fapi2"))


# --- construction ---

UNVERIFIED = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
UNVERIFIED.check_hostname = False
UNVERIFIED.verify_mode = ssl.CERT_NONE
USUAL = {"endpoint": "https://as.test/introspect", "client_id": "api", "client_secret": "secret"}


@pytest.mark.standard("F2", "F7")
@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"endpoint": "http://as.test/introspect"}, "https"),
        ({"endpoint": "http://127.0.0.1/introspect"}, "https"),
        ({"endpoint": "introspect"}, "https"),
        ({"endpoint": None}, "endpoint"),
        ({"client_id": ""}, "client_id"),
        ({"client_secret": ""}, "client_secret"),
        ({"client_secret": None}, "nothing says who we are"),
        (
            {
                "client_secret": None,
                "ssl_context": ssl.create_default_context(),
                "endpoint": "http://127.0.0.1/",
                "allow_http": True,
            },
            "https endpoint",
        ),
        ({"ssl_context": UNVERIFIED}, "does not verify the server"),
        ({"ssl_context": "cert.pem"}, "ssl_context"),
        ({"issuer": ""}, "issuer"),
        ({"audience": ["https://api.test"]}, "audience"),
        ({"required_claims": "aud"}, "required_claims"),
        ({"profile": "rfc9068"}, "profile"),
        ({"leeway": 61}, "leeway"),
        ({"leeway": True}, "leeway"),
        ({"leeway": 9, "profile": "fapi2"}, "leeway"),
        ({"cache": {}}, "cache"),
        ({"cache": MemoryAnswers}, "cache"),
        ({"remember_active": 301}, "remember_active"),
        ({"remember_inactive": -1}, "remember_inactive"),
        ({"remember_active": float("nan")}, "remember_active"),
        ({"timeout": 0}, "timeout"),
        ({"signed_by": {"keys": []}, "issuer": "https://as.test"}, "jwks"),
        ({"signed_by": "http://as.test/jwks", "issuer": "https://as.test"}, "https"),
        ({"signed_by": "https://as.test/jwks"}, "issuer"),
    ],
    ids=shown,
)
def test_wrong_settings_are_refused_at_construction_with_what_is_wrong(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigurationError, match=said) as error:
        IntrospectedAccessTokens(**{**USUAL, **changes})
    assert "secret'" not in str(error.value)


def test_the_usual_settings_construct_and_nothing_shows_the_secret() -> None:
    tokens = IntrospectedAccessTokens(**USUAL)  # type: ignore[arg-type]
    assert "secret" not in repr(tokens)
    need = next(tokens.validate(TOKEN, 0))
    assert TOKEN not in repr(need)
    assert "Basic" not in repr(need)


def test_both_kinds_of_tokens_have_the_issuer_that_they_judge() -> None:
    assert IntrospectedAccessTokens(**USUAL, issuer=ISSUER).issuer == ISSUER  # type: ignore[arg-type]
    assert JWTAccessTokens(issuer=ISSUER, audience=AUDIENCE, jwks=forge.JWKS).issuer == ISSUER
