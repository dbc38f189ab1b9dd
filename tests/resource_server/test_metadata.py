"""RFC 9728: the layer serves the resource's metadata to everybody, and names it in its challenges."""

import json
from typing import Any

import pytest

from mtls_middleware import ConfigurationError
from mtls_middleware.policy import Subject
from mtls_middleware.resource_server import protected_resource_metadata
from mtls_middleware.sources import ServerTLS
from mtls_middleware.testing import IssuedCertificate, TokenIssuer
from tests.gateways import MODULES, Outcome, Request, Wrap, both_gateways, exchange, scope_of, send

DOCUMENT = protected_resource_metadata(
    resource="https://api.example/invoices",
    authorization_servers=["https://as.example"],
    scopes_supported=["invoices:read"],
)
PATH = "/.well-known/oauth-protected-resource/invoices"


def serving(issuer: TokenIssuer, document: Any = DOCUMENT, **options: Any) -> Wrap:
    def wrap(module: Any, app: Any) -> Any:
        given = {"source": ServerTLS(), "tokens": issuer.access_tokens(), "resource_metadata": document, **options}
        return module.protect(app, **given)

    return wrap


def ask(gateway: str, issuer: TokenIssuer, path: str = PATH, method: str = "GET", **options: Any) -> Outcome:
    return send(gateway, serving(issuer, **options), Request(path=path, method=method))


@both_gateways
@pytest.mark.standard("C12", "C15", "C16")
def test_every_client_gets_the_document_at_its_well_known_path(gateway: str, mtls_issuer: TokenIssuer) -> None:
    for allow in (None, Subject("CN=nobody")):
        result = ask(gateway, mtls_issuer, allow=allow)
        assert (result.status, result.seen) == (200, None)
        assert json.loads(result.body) == DOCUMENT
        assert result.header("Content-Type") == "application/json"
        assert result.header("Cache-Control") == "public, max-age=3600"
        assert result.header("Content-Length") == str(len(result.body))


@both_gateways
@pytest.mark.standard("C15")
@pytest.mark.parametrize(
    ("resource", "path"),
    [
        ("https://api.example", "/.well-known/oauth-protected-resource"),
        ("https://api.example/", "/.well-known/oauth-protected-resource"),
        ("https://api.example:8443/a/b/", "/.well-known/oauth-protected-resource/a/b"),
        ("https://api.example/caf%C3%A9", "/.well-known/oauth-protected-resource/café"),
    ],
)
def test_the_path_is_that_of_the_resource_decoded(
    gateway: str, resource: str, path: str, mtls_issuer: TokenIssuer
) -> None:
    assert ask(gateway, mtls_issuer, path, document={"resource": resource}).status == 200


@both_gateways
@pytest.mark.parametrize("path", [PATH + "/", "/" + PATH, PATH.upper(), "/.well-known/oauth-protected-resource", "/"])
def test_no_other_path_is_answered_with_it(gateway: str, path: str, mtls_issuer: TokenIssuer) -> None:
    assert ask(gateway, mtls_issuer, path).status == 401


@both_gateways
@pytest.mark.standard("C18")
def test_the_challenge_names_it(gateway: str, mtls_issuer: TokenIssuer) -> None:
    challenge = ask(gateway, mtls_issuer, "/invoices").header("WWW-Authenticate")
    assert challenge == (
        'Bearer realm="protected", '
        'resource_metadata="https://api.example/.well-known/oauth-protected-resource/invoices"'
    )
    elsewhere = ask(gateway, mtls_issuer, "/invoices", document="https://meta.example/doc")
    assert 'resource_metadata="https://meta.example/doc"' in str(elsewhere.header("WWW-Authenticate"))
    assert ask(gateway, mtls_issuer, document="https://meta.example/doc").status == 401  # named, not served


@both_gateways
def test_head_has_no_body_and_other_methods_are_told_which_serve(gateway: str, mtls_issuer: TokenIssuer) -> None:
    head = ask(gateway, mtls_issuer, method="HEAD")
    assert (head.status, head.body) == (200, b"")
    assert int(head.header("Content-Length") or 0) > 0
    for method in ("POST", "DELETE", "get"):
        refused = ask(gateway, mtls_issuer, method=method)
        assert (refused.status, refused.header("Allow"), refused.seen) == (405, "GET, HEAD", None)


def test_a_websocket_there_is_like_any_other(mtls_issuer: TokenIssuer) -> None:
    async def never(*_: Any) -> None:
        raise AssertionError("reached")

    app = serving(mtls_issuer)(MODULES["asgi"], never)
    (closed,) = exchange(app, scope_of(Request(path=PATH), "websocket"), [{"type": "websocket.connect"}])
    assert closed == {"type": "websocket.close", "code": 1008, "reason": ""}


@both_gateways
def test_a_certificate_layer_of_ones_own_must_let_the_path_through(
    gateway: str, mtls_issuer: TokenIssuer, mtls_client: IssuedCertificate
) -> None:
    def layers(**options: Any) -> Wrap:
        def wrap(module: Any, app: Any) -> Any:
            inner = module.CertificateBoundTokenMiddleware(app, mtls_issuer.access_tokens(), resource_metadata=DOCUMENT)
            return module.ClientCertificateMiddleware(inner, ServerTLS(), required=True, **options)

        return wrap

    assert send(gateway, layers(), Request(path=PATH)).status == 403
    assert send(gateway, layers(), Request(path=PATH, tls=mtls_client)).status == 200
    assert send(gateway, layers(exempt=[PATH]), Request(path=PATH)).status == 200


WRONG: list[tuple[Any, str]] = [
    ({}, "resource=None"),
    ({"resource": "http://api.example"}, "an https address"),
    ({"resource": "https://api.example?x"}, "without query"),
    ({"resource": "https://api.example#x"}, "without query and fragment"),
    ({"resource": "https://[", "x": 1}, "cannot be written"),
    ({"resource": "https://api.example", "x": {1, 2}}, "cannot be written as JSON"),
    ({"resource": "https://api.example", "x": float("nan")}, "cannot be written as JSON"),
    ("http://api.example", "an https address"),
    (5, "an https address"),
]


@both_gateways
@pytest.mark.parametrize(("document", "words"), WRONG)
def test_what_cannot_be_published_is_refused(gateway: str, document: Any, words: str, mtls_issuer: TokenIssuer) -> None:
    with pytest.raises(ConfigurationError, match=words):
        serving(mtls_issuer, document)(MODULES[gateway], lambda *_: None)


@both_gateways
def test_without_tokens_there_is_nothing_to_publish(gateway: str) -> None:
    with pytest.raises(ConfigurationError, match="resource_metadata= without tokens="):
        MODULES[gateway].protect(lambda *_: None, source=ServerTLS(), resource_metadata=DOCUMENT)
