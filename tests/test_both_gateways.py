"""The answers of DESIGN 1.8, to the letter, and the way in and out of the layers: the same under WSGI and ASGI."""

import json
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any, NoReturn

import pytest

from mtls_middleware import ClientCertificate, Refused, Verification
from mtls_middleware.errors import Unavailable
from mtls_middleware.policy import Presented, Subject, Thumbprint
from mtls_middleware.sources import ClientCertHeader, Nginx, ServerTLS
from mtls_middleware.testing import IssuedCertificate, TokenIssuer, self_signed
from tests import shared
from tests.gateways import STRANGER, Request, Wrap, both_gateways, send

TRUSTED = ["10.0.0.0/8"]


@dataclass(frozen=True)
class World:
    """Who takes part: two clients of one CA, and the issuer of tokens."""

    client: IssuedCertificate
    other: IssuedCertificate
    issuer: TokenIssuer

    def bearer(self, **options: Any) -> tuple[str, str]:
        return "Authorization", "Bearer " + self.issuer.token(**options)

    def tokens(self, **options: Any) -> Wrap:
        """`protect` with tokens, over what the server negotiated."""
        chosen = {"source": ServerTLS(), "tokens": self.issuer.access_tokens(), **options}
        return lambda gateway, app: gateway.protect(app, **chosen)

    def binding(self, **options: Any) -> Wrap:
        """Both layers by hand, with options of the token layer."""

        def wrap(gateway: Any, app: Any) -> Any:
            inner = gateway.CertificateBoundTokenMiddleware(app, self.issuer.access_tokens(), **options)
            return gateway.ClientCertificateMiddleware(inner, ServerTLS())

        return wrap


@pytest.fixture(scope="module")
def world(mtls_client: IssuedCertificate, mtls_other_client: IssuedCertificate, mtls_issuer: TokenIssuer) -> World:
    return World(mtls_client, mtls_other_client, mtls_issuer)


def certificates(**options: Any) -> Wrap:
    chosen = {"source": Nginx(trusted_proxies=TRUSTED), **options}
    return lambda gateway, app: gateway.ClientCertificateMiddleware(app, **chosen)


class Failing:
    """A trust store, or a validator of tokens, that raises."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def validate(self, _what: object, _now: float) -> Generator[Any, Any, NoReturn]:
        raise self._error
        yield  # a flow


DESCRIPTIONS = {
    "invalid_client_certificate": "The client certificate cannot be read.",
    "client_certificate_required": "A client certificate is required.",
    "client_certificate_refused": "The client certificate is not accepted.",
    None: "An access token is required.",
    "invalid_request": "The request is malformed.",
    "invalid_token": "The access token is not accepted.",
    "insufficient_scope": "The access token has too little scope.",
    "temporarily_unavailable": "Try again later.",
    "server_error": "The request could not be decided.",
}


@dataclass(frozen=True)
class Row:
    """One refusal: what was set up, what was sent, what must come back."""

    wrap: Callable[[World], Wrap]
    request: Callable[[World], Request]
    status: int
    error: str | None
    challenge: str | None = None
    retry_after: str | None = None


def challenge(error: str, more: str = "") -> str:
    return f'Bearer realm="protected", error="{error}", error_description="{DESCRIPTIONS[error]}"{more}'


def plain(world: World) -> Wrap:
    return world.tokens()


def required(_world: World) -> Wrap:
    return certificates(required=True)


def carrying(world: World, *headers: tuple[str, str], **options: Any) -> Request:
    """From the client with its certificate."""
    return Request(tls=world.client, headers=headers, **options)


def nginx(certificate: IssuedCertificate, verify: str = "SUCCESS") -> list[tuple[str, str]]:
    return list(certificate.as_nginx(verify=verify).items())


BAD_TOKEN = (401, "invalid_token", challenge("invalid_token"))
BAD_REQUEST = (400, "invalid_request", challenge("invalid_request"))
NO_TOKEN = (401, None, 'Bearer realm="protected"')
BUG = Failing(RuntimeError("the engine quotes eyJhbGciOi"))
DOWN = Failing(Unavailable("keys cannot be had", retry_after=7))

ROWS = {
    # Certificates.
    "header of a stranger": Row(
        required, lambda w: Request(peer=STRANGER, headers=nginx(w.client)), 403, "client_certificate_required"
    ),
    "malformed header": Row(
        lambda _: certificates(),
        lambda _: Request(headers=[("X-SSL-Client-Cert", "rubbish"), ("X-SSL-Client-Verify", "SUCCESS")]),
        400,
        "invalid_client_certificate",
    ),
    "header twice": Row(
        lambda _: certificates(),
        lambda w: Request(headers=[*nginx(w.client), nginx(w.client)[0]]),
        400,
        "invalid_client_certificate",
    ),
    "certificate without its word": Row(
        lambda _: certificates(),
        lambda w: Request(headers=nginx(w.client)[:1]),
        400,
        "invalid_client_certificate",
    ),
    "no certificate": Row(required, lambda _: Request(), 403, "client_certificate_required"),
    "certificate not verified": Row(
        required,
        lambda w: Request(headers=nginx(w.client, "FAILED:self signed certificate")),
        403,
        "client_certificate_refused",
    ),
    "certificate not allowed": Row(
        lambda _: certificates(allow=Subject("CN=somebody")),
        lambda w: Request(headers=nginx(w.client)),
        403,
        "client_certificate_refused",
    ),
    "not allowed, and not required either": Row(
        lambda _: certificates(allow=Subject("CN=somebody"), required=False),
        lambda w: Request(headers=nginx(w.client)),
        403,
        "client_certificate_refused",
    ),
    "chain does not validate": Row(
        lambda _: certificates(trust_store=Failing(Refused("client_certificate_refused", "unknown CA"))),
        lambda w: Request(headers=nginx(w.client)),
        403,
        "client_certificate_refused",
    ),
    "revocation lists cannot be had": Row(
        lambda _: certificates(trust_store=DOWN),
        lambda w: Request(headers=nginx(w.client)),
        503,
        "temporarily_unavailable",
        retry_after="7",
    ),
    "a bug in the trust store": Row(
        lambda _: certificates(trust_store=BUG), lambda w: Request(headers=nginx(w.client)), 500, "server_error"
    ),
    "a rule that raises": Row(
        lambda _: certificates(allow=lambda certificate: certificate.no_such_name),
        lambda w: Request(headers=nginx(w.client)),
        500,
        "server_error",
    ),
    # Credentials.
    "no token": Row(plain, carrying, *NO_TOKEN),
    "another scheme": Row(plain, lambda w: carrying(w, ("Authorization", "Basic YTpi")), *NO_TOKEN),
    "token in the query alone": Row(
        plain, lambda w: carrying(w, query="access_token=" + w.issuer.token(certificate=w.client)), *NO_TOKEN
    ),
    "no token, told which scope": Row(
        lambda w: w.tokens(scopes=["b", "a"]), carrying, 401, None, 'Bearer realm="protected", scope="a b"'
    ),
    "scheme without token": Row(plain, lambda w: carrying(w, ("Authorization", "Bearer")), *BAD_REQUEST),
    "two words behind Bearer": Row(plain, lambda w: carrying(w, ("Authorization", "Bearer a b")), *BAD_REQUEST),
    "outside of b64token": Row(plain, lambda w: carrying(w, ("Authorization", "Bearer a,b")), *BAD_REQUEST),
    "outside of ASCII": Row(plain, lambda w: carrying(w, ("Authorization", "Bearer \xe4")), *BAD_REQUEST),
    "two Authorization headers": Row(
        plain,
        lambda w: carrying(w, w.bearer(certificate=w.client), w.bearer(certificate=w.client)),
        *BAD_REQUEST,
    ),
    "two methods": Row(
        plain, lambda w: carrying(w, w.bearer(certificate=w.client), query="access_token=x"), *BAD_REQUEST
    ),
    # Tokens.
    "no JWT": Row(plain, lambda w: carrying(w, ("Authorization", "Bearer abc")), *BAD_TOKEN),
    "expired": Row(
        plain,
        lambda w: carrying(w, w.bearer(certificate=w.client, claims={"exp": 1})),
        *BAD_TOKEN,
    ),
    "another audience": Row(
        plain, lambda w: carrying(w, w.bearer(certificate=w.client, claims={"aud": "https://other"})), *BAD_TOKEN
    ),
    "another typ": Row(
        plain, lambda w: carrying(w, w.bearer(certificate=w.client, headers={"typ": "JWT"})), *BAD_TOKEN
    ),
    "unbound, and binding is required": Row(plain, lambda w: carrying(w, w.bearer()), *BAD_TOKEN),
    "bound to another": Row(plain, lambda w: carrying(w, w.bearer(certificate=w.other)), *BAD_TOKEN),
    "bound, without certificate": Row(plain, lambda w: Request(headers=[w.bearer(certificate=w.client)]), *BAD_TOKEN),
    "bound to a key": Row(plain, lambda w: carrying(w, w.bearer(claims={"cnf": {"jkt": "x"}})), *BAD_TOKEN),
    "bound, and to a key": Row(
        plain,
        lambda w: carrying(w, w.bearer(claims={"cnf": {"x5t#S256": w.client.thumbprint, "jkt": "x"}})),
        *BAD_TOKEN,
    ),
    "bound to what is no thumbprint": Row(
        plain, lambda w: carrying(w, w.bearer(claims={"cnf": {"x5t#S256": 7}})), *BAD_TOKEN
    ),
    "scope too small": Row(
        lambda w: w.tokens(scopes=["write", "read"]),
        lambda w: carrying(w, w.bearer(certificate=w.client, scopes=["read"])),
        403,
        "insufficient_scope",
        challenge("insufficient_scope", ', scope="read write"'),
    ),
    "keys cannot be had": Row(
        lambda w: w.tokens(tokens=DOWN),
        lambda w: carrying(w, w.bearer(certificate=w.client)),
        503,
        "temporarily_unavailable",
        retry_after="7",
    ),
    "a bug in the validator": Row(
        lambda w: w.tokens(tokens=BUG), lambda w: carrying(w, w.bearer(certificate=w.client)), 500, "server_error"
    ),
    "own realm, and where the metadata is": Row(
        lambda w: w.binding(realm="ledger", resource_metadata="https://api.test/.well-known/x"),
        carrying,
        401,
        None,
        'Bearer realm="ledger", resource_metadata="https://api.test/.well-known/x"',
    ),
}


@both_gateways
@pytest.mark.parametrize("name", ROWS)
@pytest.mark.case("105", "106", "121", "122", "126", "154", "157")
@pytest.mark.standard("G1", "G2", "G3", "G4", "G5", "G6", "G7", "I12", "I13")
def test_refusal_is_this_answer_and_no_byte_more(gateway: str, name: str, world: World) -> None:
    row = ROWS[name]
    result = send(gateway, row.wrap(world), row.request(world))
    assert result.seen is None
    assert result.status == row.status
    members = {"error": row.error, "error_description": DESCRIPTIONS[row.error]}
    assert json.loads(result.body) == {key: value for key, value in members.items() if value is not None}
    expected = {
        "content-type": "application/json",
        "content-length": str(len(result.body)),
        "cache-control": "no-store",
        "www-authenticate": row.challenge,
        "retry-after": row.retry_after,
    }
    got = {key.lower(): value for key, value in result.headers if key.lower() != "vary"}
    assert got == {key: value for key, value in expected.items() if value is not None}
    assert len(got) + (result.header("vary") is not None) == len(result.headers)  # each of them once


# vectors/errors.json: the row's id -> the row above that is it
VECTORS = {
    "no-token": "no token",
    "other-scheme": "another scheme",
    "two-methods": "two methods",
    "two-authorization-headers": "two Authorization headers",
    "malformed-credentials": "two words behind Bearer",
    "query-token": "token in the query alone",
    "bad-token": "expired",
    "scope": "scope too small",
    "cert-mismatch": "bound to another",
    "cert-missing": "bound, without certificate",
    "unbound-token": "unbound, and binding is required",
    "unknown-cnf": "bound to a key",
    "malformed-cnf": "bound to what is no thumbprint",
    "both-x5t-jkt": "bound, and to a key",
    "dup-client-cert": "header twice",
    "cert-not-acceptable": "certificate not allowed",
}
# Introspection has its own tests; `ttrp-forged` speaks of the proxy; the last one is no refusal.
ELSEWHERE = {"inactive", "introspection-down", "ttrp-forged", "unbound-token-optional"}


@pytest.mark.shared
def test_answers_are_those_of_the_vectors() -> None:
    vectors = {each["id"]: each for each in shared.read_json("vectors/errors.json")["resource_server"]}
    assert vectors.keys() == VECTORS.keys() | ELSEWHERE
    for vector, name in VECTORS.items():
        expected, row = vectors[vector], ROWS[name]
        assert str(row.status) in str(expected["status"]), vector
        if row.challenge is not None:
            assert row.error == expected["error"], vector


@both_gateways
@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "TRACE", "PROPFIND", "get", "POST"])
@pytest.mark.case("147")
@pytest.mark.standard("G13")
def test_method_changes_nothing(gateway: str, method: str, world: World) -> None:
    refused = send(gateway, world.tokens(), carrying(world, method=method))
    assert (refused.status, refused.seen) == (401, None)
    assert refused.header("WWW-Authenticate") == 'Bearer realm="protected"'
    assert (refused.body == b"") == (method == "HEAD")
    accepted = send(gateway, world.tokens(), carrying(world, world.bearer(certificate=world.client), method=method))
    assert accepted.application.carrier.get("REQUEST_METHOD", accepted.application.carrier.get("method")) == method


@both_gateways
@pytest.mark.case("147")
def test_a_preflight_is_no_way_in(gateway: str, world: World) -> None:
    preflight = [("Origin", "https://evil.test"), ("Access-Control-Request-Method", "GET")]
    assert send(gateway, required(world), Request(method="OPTIONS", headers=preflight)).status == 403


@both_gateways
def test_application_reads_certificate_and_token(gateway: str, world: World) -> None:
    request = carrying(world, world.bearer(certificate=world.client, scopes=["read", "write"]), method="POST")
    result = send(gateway, world.tokens(scopes=["read"]), request)
    seen = result.application
    assert (result.status, result.body, seen.body) == (200, b"reached", b"hello")
    assert seen.certificate == world.client.client_certificate()
    assert seen.certificate.verification is Verification.BY_SERVER
    assert seen.token is not None
    assert (seen.token.bound, seen.token.confirmation) == (True, world.client.thumbprint)
    assert seen.token.scopes == {"read", "write"}
    assert seen.carrier["mtls_middleware.certificate"] is seen.certificate
    assert seen.carrier["mtls_middleware.token"] is seen.token


@both_gateways
@pytest.mark.parametrize("scheme", ["bearer", "BEARER", "bEaReR"])
@pytest.mark.standard("G10")
@pytest.mark.case("123")
def test_scheme_has_no_case(gateway: str, scheme: str, world: World) -> None:
    _, value = world.bearer(certificate=world.client)
    request = carrying(world, ("Authorization", scheme + value.removeprefix("Bearer")))
    assert send(gateway, world.tokens(), request).application.token is not None


@both_gateways
@pytest.mark.standard("G11")
def test_token_in_a_form_is_not_read(gateway: str, world: World) -> None:
    form = ("Content-Type", "application/x-www-form-urlencoded")
    result = send(gateway, world.tokens(), carrying(world, form, method="POST"))
    assert (result.status, result.header("WWW-Authenticate")) == (401, 'Bearer realm="protected"')


@both_gateways
@pytest.mark.case("107")
def test_unbound_token_passes_as_plain_bearer_where_binding_is_optional(gateway: str, world: World) -> None:
    seen = send(gateway, world.binding(binding="when_present"), carrying(world, world.bearer())).application
    assert seen.token is not None
    assert (seen.token.bound, seen.token.confirmation) == (False, None)


@both_gateways
@pytest.mark.parametrize("cnf", [{}, None, [], "x", {"jkt": "x"}, {"x5t#S256": ""}, {"x5t#S256": None}, 0, False])
@pytest.mark.case("108")
def test_cnf_in_any_form_is_never_unbound(gateway: str, cnf: Any, world: World) -> None:
    request = carrying(world, world.bearer(claims={"cnf": cnf}))
    result = send(gateway, world.binding(binding="when_present"), request)
    assert (result.status, result.header("WWW-Authenticate")) == (401, challenge("invalid_token"))


@both_gateways
@pytest.mark.case("103", "104")
def test_bound_token_is_checked_where_binding_is_optional(gateway: str, world: World) -> None:
    wrap = world.binding(binding="when_present")
    renewed = world.issuer.token(certificate=world.other)
    assert send(gateway, wrap, carrying(world, ("Authorization", f"Bearer {renewed}"))).status == 401
    assert send(gateway, wrap, carrying(world, world.bearer(certificate=world.client))).application.token is not None


@both_gateways
def test_binding_asks_for_no_chain(gateway: str, world: World) -> None:
    """RFC 8705 6.2: possession of the key is all that a bound token proves."""
    own = self_signed("CN=nobody vouches for me")
    request = Request(tls=own, verified=False, headers=[world.bearer(certificate=own)])
    seen = send(gateway, world.tokens(), request).application
    assert seen.certificate is not None
    assert seen.certificate.verification is Verification.PRESENTED


@both_gateways
@pytest.mark.case("001", "002")
def test_strangers_header_is_no_certificate_and_no_error(gateway: str, world: World) -> None:
    for headers in (nginx(world.client), [("X-SSL-Client-Cert", "rubbish")], nginx(world.client) * 2):
        seen = send(gateway, certificates(), Request(peer=STRANGER, headers=headers)).application
        assert seen.certificate is None
        assert "x-ssl-client-cert" not in seen.headers


@both_gateways
@pytest.mark.parametrize(
    ("allow", "verify", "status"),
    [
        (Subject("CN=client,O=Tests"), "SUCCESS", 200),
        (Subject("CN=client,O=Tests"), "FAILED:self signed certificate", 403),
        (Presented(lambda certificate: certificate.subject == "CN=client,O=Tests"), "FAILED:x", 200),
        (lambda certificate: certificate.subject == "CN=client,O=Tests", "SUCCESS", 200),
        (lambda certificate: certificate.subject == "CN=client,O=Tests", "FAILED:x", 403),
        (lambda certificate: "yes", "SUCCESS", 403),
        (None, "FAILED:self signed certificate", 200),
    ],
)
@pytest.mark.case("025")
def test_rule_decides_on_the_certificate(gateway: str, allow: Any, verify: str, status: int, world: World) -> None:
    result = send(gateway, certificates(allow=allow), Request(headers=nginx(world.client, verify)))
    assert result.status == status


@both_gateways
def test_thumbprint_accepts_what_is_merely_presented(gateway: str, world: World) -> None:
    source = Nginx(trusted_proxies=TRUSTED, verify_header=False)
    wrap = certificates(source=source, allow=Thumbprint(world.client.thumbprint))
    seen = send(gateway, wrap, Request(headers=nginx(world.client))).application
    assert seen.certificate == ClientCertificate.from_der(world.client.der)
    assert send(gateway, wrap, Request(headers=nginx(world.other))).status == 403
    assert send(gateway, wrap, Request()).status == 403  # allow makes it required


@both_gateways
def test_optional_certificate_is_none_without_one(gateway: str, world: World) -> None:
    for wrap in (certificates(), certificates(allow=Subject("CN=x"), required=False)):
        assert send(gateway, wrap, Request()).application.certificate is None


@both_gateways
@pytest.mark.case("157")
@pytest.mark.standard("G16", "I12")
def test_responses_that_depend_on_the_header_vary_by_it(gateway: str, world: World) -> None:
    source = ClientCertHeader(trusted_proxies=TRUSTED, verified_by_proxy=True)
    headers = list(world.client.as_client_cert().items())

    def wrap(module: Any, app: Any) -> Any:
        return module.protect(app, source=source, tokens=world.issuer.access_tokens())

    refused = send(gateway, wrap, Request(headers=headers))
    assert (refused.status, refused.header("Cache-Control")) == (401, "no-store")
    accepted = send(gateway, wrap, Request(headers=[*headers, world.bearer(certificate=world.client)]))
    assert (accepted.status, accepted.header("Vary")) == (200, "client-cert")
    assert accepted.header("Client-Cert") is None
    assert send(gateway, world.tokens(exempt=["/"]), Request()).header("Vary") is None  # the server's own TLS


@both_gateways
@pytest.mark.case("063")
@pytest.mark.standard("K10")
def test_nothing_is_carried_over_to_the_next_request(gateway: str, world: World) -> None:
    layers: dict[int, Any] = {}
    wrap = certificates()

    def once(module: Any, app: Any) -> Any:
        def relay(*arguments: Any) -> Any:
            return layers["app"](*arguments)

        layers["app"] = app
        return layers.setdefault("layer", wrap(module, relay))

    first = send(gateway, once, Request(headers=nginx(world.client))).application
    second = send(gateway, once, Request()).application
    assert (first.certificate, second.certificate) == (world.client.client_certificate(), None)


@both_gateways
@pytest.mark.case("023")
def test_scheme_is_no_proof_of_tls(gateway: str, world: World) -> None:
    https = {"wsgi.url_scheme": "https", "HTTPS": "on", "scheme": "https"}
    request = Request(headers=[("X-Forwarded-Proto", "https")], extra=https)
    assert send(gateway, required(world), request).status == 403
    assert send(gateway, certificates(source=ServerTLS(), required=True), request).status == 403


@both_gateways
@pytest.mark.case("151")
def test_host_names_no_exempt_path(gateway: str, world: World) -> None:
    request = Request(path="/admin", headers=[("Host", "server.test/health?y=")])
    assert send(gateway, certificates(required=True, exempt=["/health"]), request).status == 403


@both_gateways
@pytest.mark.case("154")
@pytest.mark.parametrize("error", [MemoryError(), RecursionError(), AssertionError(), KeyError("x"), StopIteration()])
def test_any_exception_of_ours_is_500(gateway: str, error: Exception, world: World) -> None:
    wrap = world.tokens(tokens=Failing(error))
    result = send(gateway, wrap, carrying(world, world.bearer(certificate=world.client)))
    assert (result.status, result.seen) == (500, None)
    assert json.loads(result.body)["error"] == "server_error"


@both_gateways
def test_exception_of_the_application_is_its_own(gateway: str, world: World) -> None:
    def broken(*_arguments: Any) -> Any:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        send(gateway, lambda module, _app: certificates()(module, broken), Request())
