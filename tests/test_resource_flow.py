"""What the layers demand, what `exempt` lets through, how they nest, and what they tell the operator."""

import logging
import re
from collections.abc import Generator
from typing import Any

import pytest

from mtls_middleware import ClientCertificate, ConfigurationError, Verification, asgi, wsgi
from mtls_middleware.policy import DNSName, Presented, Subject, Thumbprint
from mtls_middleware.request import Attached
from mtls_middleware.sources import AWSLoadBalancer, Nginx, ServerTLS, Traefik
from mtls_middleware.testing import IssuedCertificate, TokenIssuer
from tests.gateways import MODULES, STRANGER, Request, Wrap, both_gateways, send
from tests.ids import shown

TRUSTED = ["10.0.0.0/8"]
CLIENT, SOMEBODY = Subject("CN=client,O=Tests"), Subject("CN=somebody")


def nginx(certificate: IssuedCertificate, verify: str = "SUCCESS", **options: Any) -> Request:
    return Request(headers=list(certificate.as_nginx(verify=verify).items()), **options)


def layers(*options: dict[str, Any]) -> Wrap:
    """Certificate layers, the outermost first."""

    def wrap(gateway: Any, app: Any) -> Any:
        for each in reversed(options):
            app = gateway.ClientCertificateMiddleware(app, **{"source": Nginx(trusted_proxies=TRUSTED), **each})
        return app

    return wrap


# Exempt paths

VARIANTS = [
    "//health", "/health/", "/HEALTH", "/health/../admin", "/health/..", "/health;x", "/health%2f..%2fadmin",
    "/health\x00", "/health#x", "/health?x", "/./health", "/%68ealth", "health", "", "/", "/healthy", " /health",
    "/health ", "/health\n", "http://x/health", "/admin#/health", "/health\\", "\\health", "/he\u0430lth",
]  # fmt: skip


@both_gateways
@pytest.mark.parametrize("path", VARIANTS)
@pytest.mark.case("148")
def test_only_the_very_path_is_exempt(
    gateway: str, path: str, mtls_client: IssuedCertificate, mtls_issuer: TokenIssuer
) -> None:
    exempt = ["/health"]

    def tokens(module: Any, app: Any) -> Any:
        return module.protect(app, source=ServerTLS(), tokens=mtls_issuer.access_tokens(), exempt=exempt)

    assert send(gateway, layers({"required": True, "exempt": exempt}), Request(path=path)).status == 403
    assert send(gateway, tokens, Request(path=path, tls=mtls_client)).status == 401
    assert send(gateway, tokens, Request(path="/health")).status == 200


@both_gateways
@pytest.mark.parametrize("path", ["/health", "/größe", "/a b", "/100%"])
def test_exempt_paths_are_written_decoded(gateway: str, path: str) -> None:
    wrap = layers({"required": True, "exempt": [path]})
    assert send(gateway, wrap, Request(path=path)).application.certificate is None


@both_gateways
def test_exempt_path_is_what_stands_behind_the_mount(gateway: str) -> None:
    wrap = layers({"required": True, "exempt": ["/health"]})
    assert send(gateway, wrap, Request(root="/api", path="/health")).status == 200
    assert send(gateway, wrap, Request(root="/health", path="/admin")).status == 403
    assert send(gateway, wrap, Request(root="/health", path="")).status == 403  # the mount's own root
    assert send(gateway, wrap, Request(path="/api/health")).status == 403


@pytest.mark.parametrize(
    ("root", "path", "status"),
    [
        ("/api", "/api/health", 200),
        ("/api", "/health", 200),  # servers that leave root_path out of path
        ("/api", "/api", 403),
        ("/api", "/apihealth", 403),
        ("/api/health", "/api/health", 403),
        ("/health", "/health", 403),
        ("", "/health", 200),
        (None, "/health", 200),
    ],
)
def test_root_path_is_taken_off_as_a_path(root: Any, path: str, status: int) -> None:
    wrap = layers({"required": True, "exempt": ["/health"]})
    assert send("asgi", wrap, Request(extra={"path": path, "root_path": root})).status == status


@both_gateways
@pytest.mark.parametrize("path", ["/health", "/other"])
def test_good_certificate_is_attached_on_exempt_paths_too(
    gateway: str, path: str, mtls_client: IssuedCertificate
) -> None:
    wrap = layers({"allow": CLIENT, "exempt": ["/health"]})
    assert send(gateway, wrap, nginx(mtls_client, path=path)).application.certificate is not None


@both_gateways
def test_what_would_be_refused_is_none_on_exempt_paths(gateway: str, mtls_client: IssuedCertificate) -> None:
    for options, verify in (
        ({"allow": SOMEBODY}, "SUCCESS"),
        ({"allow": SOMEBODY, "required": False}, "SUCCESS"),
        ({"required": True}, "FAILED:self signed certificate"),
        ({}, "NONE"),  # malformed: a certificate beside the word for none
    ):
        wrap = layers({**options, "exempt": ["/health"]})
        seen = send(gateway, wrap, nginx(mtls_client, verify, path="/health")).application
        assert seen.certificate is None
        assert not {"x-ssl-client-cert", "x-ssl-client-verify"} & seen.headers.keys()
        assert send(gateway, wrap, nginx(mtls_client, verify, path="/")).status in {400, 403}


@both_gateways
@pytest.mark.parametrize("lifetime", ["good", "bad", "none"])
def test_token_on_exempt_paths_is_the_good_one_or_none(
    gateway: str, lifetime: str, mtls_client: IssuedCertificate, mtls_issuer: TokenIssuer
) -> None:
    def wrap(module: Any, app: Any) -> Any:
        return module.protect(app, source=ServerTLS(), tokens=mtls_issuer.access_tokens(), exempt=["/health"])

    text = mtls_issuer.token(certificate=mtls_client, claims={"exp": 1} if lifetime == "bad" else {})
    headers = [] if lifetime == "none" else [("Authorization", f"Bearer {text}")]
    seen = send(gateway, wrap, Request(path="/health", headers=headers, tls=mtls_client)).application
    assert (seen.token is not None) == (lifetime == "good")
    assert seen.certificate == mtls_client.client_certificate()


# Layers within layers


@both_gateways
def test_inner_layer_keeps_the_outer_certificate(gateway: str, mtls_client: IssuedCertificate) -> None:
    for inner in ({}, {"source": ServerTLS()}, {"source": ServerTLS(), "required": True}, {"allow": CLIENT}):
        for path in ("/", "/health"):
            wrap = layers({}, {**inner, "exempt": ["/health"]}, {"source": ServerTLS()})
            seen = send(gateway, wrap, nginx(mtls_client, path=path)).application
            assert seen.certificate == mtls_client.client_certificate()
            assert seen.certificate.verification is Verification.BY_PROXY


@both_gateways
def test_inner_rule_judges_the_outer_certificate(gateway: str, mtls_client: IssuedCertificate) -> None:
    wrap = layers({}, {"source": ServerTLS(), "allow": SOMEBODY, "exempt": ["/health"]})
    assert send(gateway, wrap, nginx(mtls_client)).status == 403
    assert send(gateway, wrap, nginx(mtls_client, path="/health")).application.certificate is None


@both_gateways
def test_the_same_certificate_merely_presented_does_not_weaken_the_outer_one(
    gateway: str, mtls_client: IssuedCertificate
) -> None:
    wrap = layers({"source": Nginx(trusted_proxies=TRUSTED)}, {"source": ServerTLS()})
    request = nginx(mtls_client, tls=mtls_client, verified=False)
    seen = send(gateway, wrap, request).application
    assert seen.certificate is not None
    assert seen.certificate.verification is Verification.BY_PROXY


@both_gateways
def test_stricter_layer_inside_or_outside_refuses(gateway: str, mtls_client: IssuedCertificate) -> None:
    one, other = {"allow": CLIENT}, {"allow": DNSName("other.example.test")}
    assert send(gateway, layers(one, other), nginx(mtls_client)).status == 403
    assert send(gateway, layers(other, one), nginx(mtls_client)).status == 403
    assert send(gateway, layers(one, {"allow": DNSName("client.example.test")}), nginx(mtls_client)).status == 200


@both_gateways
def test_token_layers_nest(gateway: str, mtls_client: IssuedCertificate, mtls_issuer: TokenIssuer) -> None:
    def wrap(module: Any, app: Any) -> Any:
        tokens = mtls_issuer.access_tokens()
        app = module.CertificateBoundTokenMiddleware(app, tokens, scopes=["write"], exempt=["/health"])
        app = module.CertificateBoundTokenMiddleware(app, tokens, scopes=["read"])
        return module.ClientCertificateMiddleware(app, ServerTLS())

    def request(path: str, *scopes: str) -> Request:
        text = mtls_issuer.token(certificate=mtls_client, scopes=scopes)
        return Request(path=path, tls=mtls_client, headers=[("Authorization", f"Bearer {text}")])

    assert send(gateway, wrap, request("/", "read", "write")).application.token is not None
    refused = send(gateway, wrap, request("/", "read"))
    assert (refused.status, refused.header("WWW-Authenticate")) == (
        403,
        'Bearer realm="protected", error="insufficient_scope", '
        'error_description="The access token has too little scope.", scope="write"',
    )
    assert send(gateway, wrap, request("/health", "read")).application.token is None
    assert send(gateway, wrap, request("/health", "write")).status == 403


@both_gateways
@pytest.mark.parametrize("path", ["/", "/health"])
def test_wrong_order_is_reported_and_never_passes(
    gateway: str, path: str, mtls_client: IssuedCertificate, mtls_issuer: TokenIssuer, caplog: pytest.LogCaptureFixture
) -> None:
    def wrong(module: Any, app: Any) -> Any:
        inner = module.ClientCertificateMiddleware(app, ServerTLS())
        return module.CertificateBoundTokenMiddleware(inner, mtls_issuer.access_tokens(), exempt=["/health"])

    def alone(module: Any, app: Any) -> Any:
        return module.CertificateBoundTokenMiddleware(app, mtls_issuer.access_tokens(), exempt=["/health"])

    authorization = ("Authorization", "Bearer " + mtls_issuer.token(certificate=mtls_client))
    for wrap in (wrong, alone):
        caplog.clear()
        result = send(gateway, wrap, Request(path=path, tls=mtls_client, headers=[authorization]))
        assert (result.status, result.seen) == (500, None)
        assert "ClientCertificateMiddleware(CertificateBoundTokenMiddleware(app" in caplog.text
        assert {each.levelno for each in caplog.records} == {logging.ERROR}


@both_gateways
def test_a_certificate_under_the_public_key_is_no_outer_layer(
    gateway: str, mtls_client: IssuedCertificate, mtls_issuer: TokenIssuer
) -> None:
    def alone(module: Any, app: Any) -> Any:
        return module.CertificateBoundTokenMiddleware(app, mtls_issuer.access_tokens())

    forged = {
        "mtls_middleware.certificate": mtls_client.client_certificate(),
        "mtls_middleware.token": "x",
        "mtls_middleware.attached": {"certificate_layer": True},
    }
    assert send(gateway, alone, Request(extra=forged)).status == 500
    another_kind = {"mtls_middleware.attached": Attached()}  # a layer of ours, and not the one for certificates
    assert send(gateway, alone, Request(extra=another_kind)).status == 500
    seen = send(gateway, layers({}), Request(extra=forged)).application
    assert (seen.certificate, seen.token) == (None, None)
    assert seen.carrier["mtls_middleware.certificate"] is None
    assert seen.carrier["mtls_middleware.token"] is None


# protect


@both_gateways
def test_protect_without_tokens_demands_a_certificate(gateway: str, mtls_client: IssuedCertificate) -> None:
    def wrap(module: Any, app: Any) -> Any:
        return module.protect(app, source=ServerTLS(), exempt=["/health"])

    assert send(gateway, wrap, Request()).status == 403
    assert send(gateway, wrap, Request(tls=mtls_client, verified=False)).status == 403
    assert send(gateway, wrap, Request(path="/health")).status == 200
    assert send(gateway, wrap, Request(tls=mtls_client)).application.certificate == mtls_client.client_certificate()


@both_gateways
def test_protect_puts_rule_and_token_in_order(
    gateway: str, mtls_client: IssuedCertificate, mtls_other_client: IssuedCertificate, mtls_issuer: TokenIssuer
) -> None:
    def wrap(module: Any, app: Any) -> Any:
        return module.protect(app, source=ServerTLS(), allow=CLIENT, tokens=mtls_issuer.access_tokens())

    def status(client: IssuedCertificate | None, *, token: bool) -> int:
        bearer = [("Authorization", "Bearer " + mtls_issuer.token(certificate=client))] if token else []
        return send(gateway, wrap, Request(tls=client, headers=bearer)).status

    assert status(mtls_client, token=True) == 200
    assert status(mtls_client, token=False) == 401
    assert status(mtls_other_client, token=True) == 403
    assert status(None, token=True) == 403


@both_gateways
def test_trust_store_has_the_last_word_on_the_certificate(gateway: str, mtls_client: IssuedCertificate) -> None:
    class Store:
        def validate(self, certificate: ClientCertificate, now: float) -> Generator[Any, Any, ClientCertificate]:
            return ClientCertificate.from_der(certificate.der, verification=Verification.BY_TRUST_STORE)
            yield

    aws = AWSLoadBalancer(mode="passthrough", trusted_proxies=TRUSTED)
    wrap = layers({"source": aws, "trust_store": Store(), "allow": CLIENT})
    escaped = mtls_client.as_nginx()["X-SSL-Client-Cert"]
    seen = send(gateway, wrap, Request(headers=[("X-Amzn-Mtls-Clientcert", escaped)])).application
    assert seen.certificate is not None
    assert seen.certificate.verification is Verification.BY_TRUST_STORE


# Construction

CERTIFICATE_LAYER: list[tuple[dict[str, Any], str]] = [
    ({"source": None}, "is no source"),
    ({"source": ServerTLS}, "is no source"),
    ({"source": "nginx"}, "is no source"),
    ({"required": "yes"}, "required='yes'"),
    ({"exempt": "/health"}, "a list of texts"),
    ({"exempt": b"/health"}, "a list of texts"),
    ({"exempt": [b"/health"]}, "a list of texts"),
    ({"exempt": iter(["/health"])}, "a list of texts"),
    ({"trust_store": "roots.pem"}, "is no trust store"),
    ({"allow": "CN=x"}, "is no rule"),
    ({"allow": True}, "is no rule"),
    ({"allow": Subject}, "is no rule"),
]


@pytest.mark.parametrize("module", MODULES.values())
@pytest.mark.parametrize(("options", "words"), CERTIFICATE_LAYER)
def test_certificate_layer_put_together_wrongly(module: Any, options: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(words)):
        module.ClientCertificateMiddleware(lambda *_: None, **{"source": ServerTLS(), **options})


TOKEN_LAYER: list[tuple[dict[str, Any], str]] = [
    ({"tokens": None}, "tokens=None"),
    ({"tokens": "https://issuer.test"}, "tokens="),
    ({"binding": "optional"}, "'required' or 'when_present'"),
    ({"binding": None}, "'required' or 'when_present'"),
    ({"scopes": "read"}, "a list of texts"),
    ({"scopes": [1]}, "a list of texts"),
    ({"scopes": (each for each in ["read"])}, "a list of texts"),
    ({"scopes": ["read write"]}, "is no scope"),
    ({"scopes": [""]}, "is no scope"),
    ({"scopes": ['a"b']}, "is no scope"),
    ({"exempt": "/health"}, "a list of texts"),
    ({"realm": ""}, "realm=''"),
    ({"realm": 'a"b'}, "printable ASCII"),
    ({"realm": "a\r\nb"}, "printable ASCII"),
    ({"realm": "größe"}, "printable ASCII"),
    ({"resource_metadata": "http://api.test"}, "an https address"),
    ({"resource_metadata": 'https://api.test/"'}, "an https address"),
    ({"resource_metadata": 7}, "an https address"),
]


@pytest.mark.parametrize("module", MODULES.values())
@pytest.mark.parametrize(("options", "words"), TOKEN_LAYER)
def test_token_layer_put_together_wrongly(
    module: Any, options: dict[str, Any], words: str, mtls_issuer: TokenIssuer
) -> None:
    options = {"tokens": mtls_issuer.access_tokens(), **options}
    with pytest.raises(ConfigurationError, match=re.escape(words)):
        module.CertificateBoundTokenMiddleware(lambda *_: None, **options)


@pytest.mark.parametrize("module", MODULES.values())
def test_what_is_wrapped_must_be_an_application(module: Any, mtls_issuer: TokenIssuer) -> None:
    with pytest.raises(ConfigurationError, match="is no"):
        module.ClientCertificateMiddleware(None, ServerTLS())
    with pytest.raises(ConfigurationError, match="is no"):
        module.CertificateBoundTokenMiddleware(None, mtls_issuer.access_tokens())


@pytest.mark.parametrize("module", MODULES.values())
def test_protect_refuses_scopes_that_nothing_would_read(module: Any) -> None:
    with pytest.raises(ConfigurationError, match="without tokens="):
        module.protect(lambda *_: None, source=ServerTLS(), scopes=["read"])


def test_both_gateways_export_the_same_layers() -> None:
    for name in ("ClientCertificateMiddleware", "CertificateBoundTokenMiddleware", "protect"):
        assert callable(getattr(wsgi, name))
        assert callable(getattr(asgi, name))


PRINT = Thumbprint("A" * 43)
WITHOUT_WORD = {
    "required": {"required": True},
    "identity rule": {"allow": CLIENT},
    "identity rule, optional": {"allow": CLIENT, "required": False},
    "callable": {"allow": lambda certificate: True},
    "and": {"allow": PRINT & CLIENT},
    "not": {"allow": ~CLIENT},
}
SILENT = [
    Traefik(trusted_proxies=TRUSTED),
    AWSLoadBalancer(mode="passthrough", trusted_proxies=TRUSTED),
    Nginx(trusted_proxies=TRUSTED, verify_header=False),
]


@pytest.mark.parametrize("module", MODULES.values())
@pytest.mark.parametrize("source", SILENT, ids=shown)
@pytest.mark.parametrize("name", WITHOUT_WORD)
@pytest.mark.case("029")
def test_source_that_never_verifies_cannot_be_asked_for_it(module: Any, source: Any, name: str) -> None:
    with pytest.raises(ConfigurationError, match="asks for a verified certificate"):
        module.ClientCertificateMiddleware(lambda *_: None, source, **WITHOUT_WORD[name])


@both_gateways
@pytest.mark.parametrize("allow", [PRINT | CLIENT, Presented(lambda _: True), ~(PRINT & CLIENT), None])
@pytest.mark.case("029")
def test_source_that_never_verifies_gives_what_is_presented(
    gateway: str, allow: Any, mtls_client: IssuedCertificate
) -> None:
    source = Nginx(trusted_proxies=TRUSTED, verify_header=False)
    wrap = layers({"source": source, "allow": allow, "required": False})
    seen = send(gateway, wrap, nginx(mtls_client))
    if allow is not None and not allow.holds(mtls_client.client_certificate(Verification.PRESENTED)):
        assert seen.status == 403
    else:
        assert seen.application.certificate is not None
        assert seen.application.certificate.verification is Verification.PRESENTED


# What the operator reads


def record(caplog: pytest.LogCaptureFixture) -> dict[str, Any]:
    (found,) = (each for each in caplog.records if each.name == "mtls_middleware.decision")
    fields: dict[str, Any] = vars(found)["mtls"]
    return {"level": found.levelname, **fields}


def both_layers(issuer: TokenIssuer) -> Wrap:
    return lambda module, app: module.protect(app, source=ServerTLS(), tokens=issuer.access_tokens())


@both_gateways
def test_refusal_is_one_record_with_reason_and_thumbprint(
    gateway: str, mtls_client: IssuedCertificate, mtls_issuer: TokenIssuer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    request = Request(path="/invoices", tls=mtls_client, headers=[("Authorization", "Bearer abc")])
    send(gateway, both_layers(mtls_issuer), request)
    found = record(caplog)
    assert 0 <= found.pop("seconds") < 60
    assert found == {
        "level": "INFO",
        "outcome": "refused",
        "layer": "token",
        "status": 401,
        "code": "invalid_token",
        "evidence": ("not three parts of base64url",),
        "method": "GET",
        "path": "/invoices",
        "thumbprint": mtls_client.thumbprint,
        "verification": "BY_SERVER",
        **dict.fromkeys(("bound", "remembered", "issuer", "key_id", "client_id")),
    }


@both_gateways
def test_request_that_is_let_through_is_one_record_by_the_innermost_layer(
    gateway: str, mtls_client: IssuedCertificate, mtls_issuer: TokenIssuer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    token = mtls_issuer.token(certificate=mtls_client)
    request = Request(path="/invoices", tls=mtls_client, headers=[("Authorization", f"Bearer {token}")])
    assert send(gateway, both_layers(mtls_issuer), request).status == 200
    found = record(caplog)
    assert 0 <= found.pop("seconds") < 60
    assert found == {
        "level": "INFO",
        "outcome": "allowed",
        "layer": "token",
        "method": "GET",
        "path": "/invoices",
        "thumbprint": mtls_client.thumbprint,
        "verification": "BY_SERVER",
        "bound": True,
        "remembered": False,
        "issuer": mtls_issuer.issuer,
        "key_id": mtls_issuer.jwks["keys"][0]["kid"],
        "client_id": "client",
    }
    assert token not in caplog.text


@both_gateways
def test_nothing_is_made_for_the_log_where_nobody_wants_it(
    gateway: str, mtls_client: IssuedCertificate, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "mtls_middleware.decision")
    send(gateway, layers({}), nginx(mtls_client))
    send(gateway, layers({"allow": SOMEBODY}), nginx(mtls_client))
    assert not caplog.records


@both_gateways
def test_certificate_that_is_not_allowed_is_named_by_its_thumbprint(
    gateway: str, mtls_client: IssuedCertificate, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    send(gateway, layers({"allow": SOMEBODY}), nginx(mtls_client))
    assert mtls_client.thumbprint in caplog.text
    assert "CN=client" not in caplog.text


@both_gateways
@pytest.mark.standard("I9")
def test_ignored_header_is_worth_a_line(
    gateway: str, mtls_client: IssuedCertificate, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    send(gateway, layers({}), nginx(mtls_client, peer=STRANGER))
    assert "header is ignored: the peer is not among trusted_proxies" in caplog.text
