"""The registered method is the only one: each method that a client may register, each that it may use."""

import base64
import json
from collections.abc import Iterable
from typing import Any

import pytest

from mtls_middleware import RegisteredClient
from mtls_middleware.testing import IssuedCertificate
from mtls_middleware.token_endpoint import ClientAuthenticator, ClientRequest
from mtls_middleware.token_endpoint.credentials import STANDARD_METHODS
from tests.gateways import both_gateways
from tests.methods import CUSTOM, IN, MALFORMED, SECRET, UNKNOWN, USED, expected, sent
from tests.token_endpoint.layer import error
from tests.token_endpoint.posts import Post, layers, send
from tests.token_endpoint.registrations import ASSERTION, BILLING, EDGE
from tests.token_endpoint.roles import assertion, basic, jwks, refused

PATHS = ("/token", "/introspect", "/revoke", "/par", "/device")
OWN: dict[str, dict[str, Any]] = {
    "tls_client_auth": {"tls_client_auth_san_dns": "billing.internal"},
    "self_signed_tls_client_auth": {"jwks": jwks(EDGE)},
}
CLIENTS = {
    method: RegisteredClient(client_id=method, token_endpoint_auth_method=method, **OWN.get(method, {}))
    for method in (*STANDARD_METHODS, CUSTOM)
}
AUTHENTICATOR = ClientAuthenticator(CLIENTS)
LAYERS = layers(AUTHENTICATOR, paths=PATHS)


def post_of(client_id: str, used: str, path: str) -> Post:
    what = sent(client_id, used)
    headers = [] if what.authorization is None else [("Authorization", what.authorization)]
    certificate = {"CA's": BILLING, "own": EDGE}.get(str(what.certificate))
    body = [("grant_type", "x"), *what.form]
    return Post(path=path, body=body, headers=headers, certificate=certificate, verified=what.certificate != "own")


@both_gateways
@pytest.mark.parametrize("registered", CLIENTS)
@pytest.mark.standard("B5", "B6")
@pytest.mark.case("138", "140")
def test_each_method_at_each_endpoint(gateway: str, registered: str) -> None:
    found, wanted = {}, {}
    for path in PATHS:
        for used in USED:
            outcome = send(gateway, LAYERS, post_of(registered, used, path))
            found[path, used] = IN if outcome.reached else error(outcome)
            wanted[path, used] = expected(registered, used)
            by_certificate = outcome.reached and registered in OWN
            assert outcome.client is (CLIENTS[registered] if by_certificate else None)
    assert found == wanted


@both_gateways
@pytest.mark.standard("B6")
@pytest.mark.parametrize("registered", CLIENTS)
def test_two_methods_in_one_request_are_malformed(gateway: str, registered: str) -> None:
    header, body = [("Authorization", basic(registered))], [("client_id", registered)]
    for headers, more in (
        (header, [("client_secret", SECRET)]),
        (header, assertion(registered)),
        ([], [("client_secret", SECRET), *assertion(registered)]),
        (header, [("client_secret", SECRET), *assertion(registered)]),
    ):
        for certificate in (None, BILLING):
            post = Post(body=[*body, *more], headers=headers, certificate=certificate)
            assert error(send(gateway, LAYERS, post)) == MALFORMED


@both_gateways
def test_a_parameter_without_a_value_is_omitted(gateway: str) -> None:
    empty = [(name, "") for name in ("client_secret", "client_assertion", "client_assertion_type")]
    public = Post(body=[("client_id", "none"), *empty])
    assert send(gateway, LAYERS, public).reached
    pki = Post(body=[("client_id", "tls_client_auth"), *empty], certificate=BILLING)
    assert send(gateway, LAYERS, pki).client is CLIENTS["tls_client_auth"]
    post = Post(body=[("client_id", "client_secret_post"), *empty])
    assert error(send(gateway, LAYERS, post)) == UNKNOWN
    header = [("Authorization", basic("client_secret_basic"))]
    assert send(gateway, LAYERS, Post(body=[("client_id", ""), *empty], headers=header)).reached


@both_gateways
@pytest.mark.case("137")
def test_a_repeated_parameter_is_malformed_even_without_a_value(gateway: str) -> None:
    for body in (
        b"client_id=&client_id=none",
        b"client_id=none&client_id=",
        b"client_id&client_id=none",
        b"client_id=none&client_secret=&client_secret=",
        b"client_id=client_secret_post&client_secret=&client_secret=x",
        b"client_id=none&client_assertion=&client_assertion=",
    ):
        assert error(send(gateway, LAYERS, Post(body=body))) == MALFORMED


def decided(client_id: str | None, form: Iterable[tuple[str, str]], *authorization: str) -> RegisteredClient:
    named = [] if client_id is None else [("client_id", client_id)]
    return AUTHENTICATOR.identify(ClientRequest([*named, *form], None, authorization=authorization), 0)


def part(members: object) -> str:
    plain = members if isinstance(members, bytes) else json.dumps(members).encode()
    return base64.urlsafe_b64encode(plain).rstrip(b"=").decode()


def hand_made(header: object, claims: object = None) -> list[tuple[str, str]]:
    encoded = header if isinstance(header, str) else part(header)
    subject = {"sub": "private_key_jwt"} if claims is None else claims
    return [ASSERTION[0], ("client_assertion", f"{encoded}.{part(subject)}.AA")]


@pytest.mark.parametrize(
    "header",
    [
        {"alg": "HS256"},
        {"alg": "hs256"},
        {"alg": "none"},
        {"alg": "NONE"},
        {"alg": ""},
        {"alg": ["ES256"]},
        {"alg": 1},
        [],
        "not base64url!",
        part({"alg": "ES256"}) + "==",
        "",
        b'{"alg": "ES256", "alg": "HS256"}',
        b'{"alg": "HS256", "alg": "ES256"}',
        b"\xff",
        b"[" * 50_000,
        b'{"alg": "ES256"',
    ],
    ids=lambda header: ascii(header)[:30],
)
def test_a_client_of_private_key_jwt_has_no_other_assertion(header: object) -> None:
    """A header that a verifier could read differently is as bad as a MAC: its key could be the client's secret."""
    with refused():
        decided("private_key_jwt", hand_made(header))


UNREADABLE = {
    "nested deeply": b'{"sub": "private_key_jwt", "x": ' + b"[" * 65 + b"]" * 65 + b"}",
    "nested without an end": b"[" * 50_000,
    "two subjects": b'{"sub": "private_key_jwt", "sub": "none"}',
    "one subject twice": b'{"sub": "private_key_jwt", "sub": "private_key_jwt"}',
    "UTF-16": '{"sub": "private_key_jwt"}'.encode("utf-16"),
    "a byte order mark": b'\xef\xbb\xbf{"sub": "private_key_jwt"}',
    "a list": b'["private_key_jwt"]',
    "nothing": b"",
    "not JSON": b"private_key_jwt",
    "a list as subject": b'{"sub": ["private_key_jwt"]}',
    "an empty subject": b'{"sub": ""}',
}


@pytest.mark.parametrize("payload", UNREADABLE)
def test_an_unreadable_assertion_is_rejected(payload: str) -> None:
    """Its verifier could read another client in it, or fail."""
    for client_id in (None, "private_key_jwt"):
        with refused():
            decided(client_id, hand_made({"alg": "ES256"}, UNREADABLE[payload]))


@pytest.mark.parametrize("parts", [1, 2, 4, 5])
def test_an_assertion_has_three_parts(parts: int) -> None:
    signed = dict(hand_made({"alg": "ES256"}))["client_assertion"].split(".")
    with refused():
        decided("private_key_jwt", [ASSERTION[0], ("client_assertion", ".".join([*signed, "AA", "AA"][:parts]))])


@pytest.mark.parametrize("algorithm", ["ES256", "PS256", "EdDSA", "Ed25519", "none"])
def test_a_client_of_client_secret_jwt_has_no_signature(algorithm: str) -> None:
    with refused():
        decided("client_secret_jwt", hand_made({"alg": algorithm}, {"sub": "client_secret_jwt"}))


def test_an_assertion_names_its_client_by_its_subject() -> None:
    signed = assertion("private_key_jwt")
    for client_id in (None, "", "private_key_jwt"):
        assert decided(client_id, signed) is CLIENTS["private_key_jwt"]
    for client_id in ("none", "client_secret_basic", "client_secret_jwt"):
        with refused():
            decided(client_id, signed)
    for subject in ("none", "client_secret_post", "tls_client_auth", "", None, ["private_key_jwt"]):
        with pytest.raises(Exception, match=r"invalid_client|invalid_request"):
            decided(None, hand_made({"alg": "ES256"}, {"sub": subject}))


@pytest.mark.parametrize(
    "kind",
    [
        "urn:ietf:params:oauth:client-assertion-type:saml2-bearer",
        "urn:ietf:params:oauth:grant-type:jwt-bearer",
        "URN:ietf:params:oauth:client-assertion-type:jwt-bearer",
        " urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
        "x",
    ],
)
def test_an_assertion_of_another_type_is_rejected(kind: str) -> None:
    form = [("client_assertion_type", kind), assertion("private_key_jwt")[1]]
    for client_id in (None, "private_key_jwt", "client_secret_jwt", "none"):
        with refused():
            decided(client_id, form)


@pytest.mark.parametrize("scheme", ["Basic", "basic", "BASIC", "Basic  "])
def test_the_scheme_has_no_case(scheme: str) -> None:
    for registered in set(CLIENTS) - {"client_secret_basic", *OWN}:
        with refused():
            decided(None, [], basic(registered).replace("Basic", scheme))
    assert decided(None, [], basic("client_secret_basic").replace("Basic", scheme))


@pytest.mark.parametrize("method", ["Client_Secret_Basic", "client_secret_basic ", "NONE", "urn:example:method"])
def test_a_misspelled_registered_method_accepts_no_credentials(method: str) -> None:
    authenticator = ClientAuthenticator({"odd": RegisteredClient(client_id="odd", token_endpoint_auth_method=method)})
    for form, authorization in (
        ([], [basic("odd")]),
        ([("client_id", "odd"), ("client_secret", "x")], []),
        ([("client_id", "odd"), *assertion("odd")], []),
    ):
        with refused():
            authenticator.identify(ClientRequest(form, None, authorization=authorization), 0)


@pytest.mark.parametrize("secret", ["", "%"])
def test_an_empty_secret_is_rejected(secret: str) -> None:
    if secret:
        assert decided(None, [], basic("client_secret_basic", secret)) is CLIENTS["client_secret_basic"]
        return
    for registered in set(CLIENTS) - set(OWN):
        with refused():
            decided(None, [], basic(registered, secret))


@pytest.mark.parametrize(
    "client_id", ["caf\u00e9", "none\0", "n\u200bone", "\u006eone\u0301", "\ud800", "no\nne", "\uff4eone"]
)
def test_a_client_id_beyond_printable_ascii_is_not_looked_up(client_id: str) -> None:
    def look_up(client_id: str) -> RegisteredClient | None:
        pytest.fail(f"looked up {client_id!r}")

    for certificate in (None, BILLING):
        with refused():
            _asked(ClientAuthenticator(look_up), client_id, certificate)


def _asked(authenticator: ClientAuthenticator, client_id: str, certificate: IssuedCertificate | None) -> object:
    presented = None if certificate is None else certificate.client_certificate()
    return authenticator.identify(ClientRequest([("client_id", client_id)], presented), 0)


def test_a_registration_is_looked_up_for_each_request() -> None:
    """A client that changed its method, or that was removed, has nothing left of its old registration."""
    known = {"app": RegisteredClient(client_id="app", token_endpoint_auth_method="client_secret_basic")}
    authenticator = ClientAuthenticator(known)
    by_basic = ClientRequest([], None, authorization=[basic("app")])
    assert authenticator.identify(by_basic, 0) is known["app"]
    known["app"] = RegisteredClient(client_id="app", token_endpoint_auth_method="private_key_jwt")
    with refused():
        authenticator.identify(by_basic, 0)
    del known["app"]
    with refused():
        authenticator.identify(by_basic, 0)


def test_two_registrations_of_one_client_id_admit_no_client() -> None:
    pair = [RegisteredClient(client_id="app", token_endpoint_auth_method=each) for each in ("none", "private_key_jwt")]
    with refused():
        _asked(ClientAuthenticator(lambda _: pair), "app", None)
