"""Layers whose answer depends on the path: `ANYONE`, `/*` in `exempt`, and where the application is mounted."""

import functools
import logging
import re
from typing import Any

import pytest

from mtls_middleware import ConfigurationError
from mtls_middleware.policy import ANYONE
from mtls_middleware.resource_server import protected_resource_metadata
from mtls_middleware.sources import AzureAppService, ServerTLS
from mtls_middleware.testing import IssuedCertificate, TokenIssuer
from tests.gateways import MODULES, Request, both_gateways, send
from tests.layers.world import CLIENT, SOMEBODY, TRUSTED, behind_nginx, nested

MIXED = {"/": CLIENT, "/public": ANYONE, "/public/private": CLIENT}


def code(result: Any) -> str:
    return "reached" if result.seen else re.findall(rb'"error": "(\w+)"', result.body)[0].decode()


@both_gateways
@pytest.mark.parametrize(
    ("path", "nobody", "somebody"),
    [
        ("/public", "reached", "reached"),
        ("/public/", "reached", "reached"),
        ("/public/x", "reached", "reached"),
        ("/public/private", "client_certificate_required", "client_certificate_refused"),
        ("/public/private/x", "client_certificate_required", "client_certificate_refused"),
        ("/publicx", "client_certificate_required", "client_certificate_refused"),
        ("/Public", "client_certificate_required", "client_certificate_refused"),
        ("/", "client_certificate_required", "client_certificate_refused"),
        ("/public//x", "client_certificate_refused", "client_certificate_refused"),
        ("/public/../x", "client_certificate_refused", "client_certificate_refused"),
        ("public", "client_certificate_refused", "client_certificate_refused"),
    ],
)
def test_a_path_for_anyone_alone_needs_no_certificate(
    gateway: str, path: str, nobody: str, somebody: str, mtls_other_client: IssuedCertificate
) -> None:
    for required in (None, True):  # True: as protect() has it
        wrap = nested({"allow": MIXED, "required": required})
        assert code(send(gateway, wrap, Request(path=path))) == nobody
        assert code(send(gateway, wrap, behind_nginx(mtls_other_client, path=path))) == somebody


@both_gateways
def test_a_certificate_is_attached_where_anyone_may_come(gateway: str, mtls_other_client: IssuedCertificate) -> None:
    wrap = nested({"allow": MIXED})
    seen = send(gateway, wrap, behind_nginx(mtls_other_client, path="/public")).application
    assert seen.certificate == mtls_other_client.client_certificate()
    assert send(gateway, wrap, behind_nginx(mtls_other_client, "NONE", path="/public")).status == 400  # malformed


@pytest.mark.parametrize("module", MODULES.values())
@pytest.mark.parametrize("allow", [{"/": CLIENT}, {"/": CLIENT, "/admin": SOMEBODY}, MIXED, {"/": ANYONE}])
def test_a_mapping_and_required_false_exclude_each_other(module: Any, allow: Any) -> None:
    with pytest.raises(ConfigurationError, match="ANYONE"):
        module.ClientCertificateMiddleware(lambda *_: None, ServerTLS(), allow=allow, required=False)


@both_gateways
def test_one_rule_and_required_false_keep_their_meaning(
    gateway: str, mtls_client: IssuedCertificate, mtls_other_client: IssuedCertificate
) -> None:
    wrap = nested({"allow": CLIENT, "required": False})
    assert send(gateway, wrap, Request()).application.certificate is None
    assert send(gateway, wrap, behind_nginx(mtls_client)).application.certificate is not None
    assert send(gateway, wrap, behind_nginx(mtls_other_client)).status == 403


def test_a_source_that_verifies_nothing_is_for_no_rule_beside_anyone() -> None:
    azure = AzureAppService(trusted_proxies=TRUSTED)
    for module in MODULES.values():
        with pytest.raises(ConfigurationError, match="needs a verified certificate"):
            module.ClientCertificateMiddleware(lambda *_: None, azure, allow=MIXED)


@both_gateways
@pytest.mark.parametrize(
    ("path", "covered"),
    [
        ("/static/a.css", True),
        ("/static/a/b", True),
        ("/static/a/", True),
        ("/static/größe", True),
        ("/static", False),
        ("/static/", False),  # Falcon and Litestar read "/static"
        ("/staticx", False),
        ("/static/*", True),
        ("/Static/a", False),
        ("/x/static/a", False),
        ("/static//a", False),
        ("/static//", False),
        ("/static/../admin", False),
        ("/static/..", False),
        ("/static/./a", False),
        ("/static/a;b", False),
        ("/static/%2e%2e/admin", False),
        ("/static/..\\admin", False),
        ("/static/a?b", False),
        ("/static/\x00", False),
        ("//static/a", False),
        ("static/a", False),
        ("/", False),
        ("", False),
    ],
)
def test_an_entry_that_ends_in_a_wildcard_covers_what_is_below(gateway: str, path: str, covered: bool) -> None:
    wrap = nested({"required": True, "exempt": ["/static/*"]})
    assert send(gateway, wrap, Request(path=path)).status == (200 if covered else 403)


BAD_ENTRIES = [
    "health", "", "*", "/h*", "/*/x", "/static/**", "/static*", "/a/*/*", "/static/*/", "health/*", "//*", "/a//*",
    "/../*", "/a/../b/*", "/a;b/*", "/users/{id}", "/users/<id>", "/users/<int:id>", "/[ab]", "/health?", "https://x/health",
]  # fmt: skip


@pytest.mark.parametrize("module", MODULES.values())
@pytest.mark.parametrize("entry", BAD_ENTRIES)
def test_an_entry_that_would_match_nothing_is_refused(module: Any, entry: str, mtls_issuer: TokenIssuer) -> None:
    with pytest.raises(ConfigurationError, match="exempt: "):
        module.ClientCertificateMiddleware(lambda *_: None, ServerTLS(), exempt=["/health", entry])
    with pytest.raises(ConfigurationError, match="exempt: "):
        module.CertificateBoundTokenMiddleware(lambda *_: None, mtls_issuer.access_tokens(), exempt=[entry])


@pytest.mark.parametrize("module", MODULES.values())
@pytest.mark.parametrize(
    "root", ["/", "api", "/api/", "//api", "/a//b", "/a/..", "/a%62", "/*", "/{tenant}", b"/api", 7]
)
def test_a_root_that_is_no_plain_path_is_refused(module: Any, root: Any, mtls_issuer: TokenIssuer) -> None:
    with pytest.raises(ConfigurationError, match="root_path="):
        module.protect(lambda *_: None, source=ServerTLS(), root_path=root)
    with pytest.raises(ConfigurationError, match="root_path="):
        module.CertificateBoundTokenMiddleware(lambda *_: None, mtls_issuer.access_tokens(), root_path=root)


@pytest.mark.parametrize("module", MODULES.values())
def test_layers_around_one_application_have_one_root(module: Any, mtls_issuer: TokenIssuer) -> None:
    inner = module.CertificateBoundTokenMiddleware(lambda *_: None, mtls_issuer.access_tokens(), root_path="/api")
    with pytest.raises(ConfigurationError, match="different root_path"):
        module.ClientCertificateMiddleware(inner, ServerTLS(), root_path="/v2")


@both_gateways
@pytest.mark.parametrize("root", ["/api", "/admin", "/", "x", "/api/"])
@pytest.mark.parametrize("path", ["/admin", "/admin/x", "/y", "", "/api", "/api/admin", "/health"])
def test_one_rule_without_exemptions_is_never_ambiguous(
    gateway: str, root: str, path: str, mtls_client: IssuedCertificate
) -> None:
    request = behind_nginx(mtls_client, path=path, root=root)
    assert send(gateway, nested({"allow": CLIENT}), request).status == 200


@both_gateways
@pytest.mark.parametrize("root", ["/x", "/y/z", "x"])
def test_the_record_says_what_the_operator_can_do(
    gateway: str, root: str, caplog: pytest.LogCaptureFixture, mtls_client: IssuedCertificate
) -> None:
    wrap = nested({"allow": {"/": CLIENT, "/admin": SOMEBODY}})
    with caplog.at_level(logging.INFO, "mtls_middleware.decision"):
        result = send(gateway, wrap, behind_nginx(mtls_client, path="/admin", root=root))
    assert (result.status, code(result)) == (400, "ambiguous_path")
    (record,) = caplog.records
    assert record.mtls["code"] == "ambiguous_path"
    (evidence,) = record.mtls["evidence"]
    assert repr(root) in evidence
    assert "root_path='/api'" in evidence


def test_a_root_of_a_client_is_quoted_and_cut(caplog: pytest.LogCaptureFixture, mtls_client: IssuedCertificate) -> None:
    wrap = nested({"allow": {"/": CLIENT, "/admin": SOMEBODY}})
    with caplog.at_level(logging.INFO, "mtls_middleware.decision"):
        send("asgi", wrap, behind_nginx(mtls_client, path="/admin", extra={"root_path": "/\u202e\n" + "x" * 5000}))
    (evidence,) = caplog.records[0].mtls["evidence"]
    assert evidence.isprintable()
    assert len(evidence) < 800


@pytest.mark.parametrize("root", [b"/api", 7, ["/api"], ("/api",)])
def test_a_root_that_is_no_string_is_refused_if_paths_matter(root: Any, mtls_client: IssuedCertificate) -> None:
    def status(**options: Any) -> int:
        return send("asgi", nested(options), behind_nginx(mtls_client, path="/y", extra={"root_path": root})).status

    assert status(allow={"/": CLIENT, "/admin": CLIENT}) == 400
    assert status(exempt=["/health"]) == 400
    assert status(allow=CLIENT) == 200
    assert status(allow={"/": CLIENT, "/admin": SOMEBODY}, root_path="") == 200


@both_gateways
def test_a_document_is_published_at_one_reading_alone(gateway: str, mtls_issuer: TokenIssuer) -> None:
    metadata = protected_resource_metadata(resource="https://api.test", authorization_servers=["https://as.test"])
    known = "/.well-known/oauth-protected-resource"

    def wrap(**options: Any) -> Any:
        tokens = mtls_issuer.access_tokens()
        return lambda module, app: module.protect(
            app, source=ServerTLS(), tokens=tokens, resource_metadata=metadata, **options
        )

    assert send(gateway, wrap(), Request(path=known)).status == 200
    assert send(gateway, wrap(), Request(path=known, root="/x")).status == 400
    assert send(gateway, wrap(root_path="/x"), Request(path=known, root="/x")).status == 200
    assert send(gateway, wrap(root_path="/x"), Request(path="/x" + known)).status == 200


@both_gateways
def test_a_statement_reaches_layers_further_in(gateway: str, mtls_issuer: TokenIssuer) -> None:
    """The inner layer says nothing, and another middleware is between them."""

    def wrap(module: Any, app: Any) -> Any:
        inner = module.CertificateBoundTokenMiddleware(app, mtls_issuer.access_tokens(), exempt=["/health"])
        between = functools.partial(inner) if gateway == "wsgi" else Passing(inner)
        return module.ClientCertificateMiddleware(between, ServerTLS(), exempt=["/health"], root_path="/api")

    for request in (Request(path="/health", root="/api"), Request(path="/health"), Request(path="/api/health")):
        assert send(gateway, wrap, request).status == 200
    assert send(gateway, wrap, Request(path="/api/api/health")).status == 401


class Passing:
    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await self.app(scope, receive, send)


@both_gateways
@pytest.mark.parametrize(
    ("root", "path", "inner"),
    [
        ("", "/api/x", "/x"),
        ("", "/x", "/x"),
        ("/api", "/x", "/x"),
        ("/api", "/api/x", "/api/x"),
        ("", "/api", ""),
        ("", "/apix", "/apix"),
        ("/a", "pi/x", "/x"),
        ("/other", "/x", "/other/x"),
        ("", "/api/größe", "/größe"),
        ("", "", ""),
    ],
)
def test_the_application_reads_the_root_that_is_stated(gateway: str, root: str, path: str, inner: str) -> None:
    wrap = nested({"root_path": "/api"})
    seen = send(gateway, wrap, Request(path=path, root=root)).application.carrier
    if gateway == "wsgi":
        assert (seen["SCRIPT_NAME"], seen["PATH_INFO"].encode("latin-1").decode()) == ("/api", inner)
    else:
        assert (seen["root_path"], seen["path"]) == ("/api", "/api" + inner)
