"""Rules by path: each part of an application has its own, and no spelling of a path gets a weaker one."""

import re
from posixpath import normpath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtls_middleware import ConfigurationError, Refused, asgi, wsgi
from mtls_middleware.layers.paths import PathRules
from mtls_middleware.policy import DNSName, SpiffeTrustDomain, Subject, Thumbprint
from mtls_middleware.sources import AzureAppService, ServerTLS
from mtls_middleware.testing import CertificateAuthority

ADMIN, REPORTS, ALL = Subject("CN=ops,O=Acme"), DNSName("reports.internal"), SpiffeTrustDomain("acme.internal")
RULES = PathRules({"/admin": ADMIN, "/admin/reports": REPORTS, "/": ALL})
AUTHORITY = CertificateAuthority()
OPS = AUTHORITY.issue("CN=ops,O=Acme")
WORKLOAD = AUTHORITY.issue(uris=["spiffe://acme.internal/web"])


@pytest.mark.parametrize(
    ("path", "rule"),
    [
        ("/", ALL),
        ("/other", ALL),
        ("/administrator", ALL),
        ("/admin", ADMIN),
        ("/admin/", ADMIN),
        ("/admin/users/7", ADMIN),
        ("/admin/reports", REPORTS),
        ("/admin/reports/2026", REPORTS),
        ("/caf\u00e9", ALL),
    ],
)
def test_the_longest_path_above_a_request_has_its_rule(path, rule):
    assert RULES.of(path) is rule


@pytest.mark.case("148")
@pytest.mark.parametrize(
    "path",
    [
        *(
            "//admin",
            "/./admin",
            "/x/../admin",
            "/admin/..",
            "/x/..",
            "/.",
            "/admin;x=1",
            "/x%2f..%2fadmin",
            "/%61dmin",
        ),
        *("/x\\..\\admin", "/admin\x00", "/admin#/", "/a\nb", "http://x/admin", "", "admin", "/ admin", "/x?/admin"),
    ],
)
def test_a_path_that_may_be_read_as_another_is_refused(path):
    with pytest.raises(Refused) as refused:
        RULES.of(path)
    assert refused.value.code == "client_certificate_refused"


@given(st.text(alphabet="/.admn;%x\\", max_size=24).map(lambda text: f"/{text}"))
def test_no_spelling_of_a_path_under_admin_gets_the_rule_of_all(path):
    try:
        rule = RULES.of(path)
    except Refused:
        return
    meant = normpath(re.sub(r";[^/]*", "", path.replace("\\", "/")))
    assert (rule is ALL) is not (meant == "/admin" or meant.startswith("/admin/"))


def test_one_rule_for_all_judges_any_path():
    assert PathRules(ALL).of("//whatever;") is ALL


@pytest.mark.parametrize(
    "given",
    [
        *({}, {"/admin": ADMIN}, {"/": ALL, "admin": ADMIN}, {"/": ALL, "/admin/": ADMIN}, {"/": ALL, "/a//b": ADMIN}),
        *({"/": ALL, "/a/../b": ADMIN}, {"/": ALL, 7: ADMIN}, {"/": "CN=x"}, {"/": ALL, "": ADMIN}),
        # A guest would reach /admin/users: no path begins with these.
        *({"/": ALL, f"/admin{wildcard}": ADMIN} for wildcard in ("/*", "*", "/**", "/{id}", "/<id>", "/[a-z]", "/?")),
    ],
)
def test_a_mapping_that_leaves_something_open_is_refused_at_construction(given):
    with pytest.raises(ConfigurationError):
        PathRules(given)


def test_a_source_that_verifies_nothing_needs_a_part_that_it_may_get_into():
    azure = AzureAppService(trusted_proxies=["10.0.0.0/8"])
    with pytest.raises(ConfigurationError, match="needs a verified certificate"):
        wsgi.ClientCertificateMiddleware(lambda *_: [], azure, allow={"/": ALL, "/admin": ADMIN})
    wsgi.ClientCertificateMiddleware(lambda *_: [], azure, allow={"/": ALL, "/own": Thumbprint(OPS.thumbprint)})


def wsgi_status(path: str, client) -> int:
    seen = []
    app = wsgi.protect(
        lambda environ, start_response: start_response("200 OK", []) or [b""],
        source=ServerTLS(),
        allow={"/admin": ADMIN, "/": ALL},
    )
    environ = {"REQUEST_METHOD": "GET", "PATH_INFO": path, **client.as_environ()}
    list(app(environ, lambda status, headers, *_: seen.append(int(status[:3]))))
    return seen[0]


def asgi_status(path: str, client) -> int:
    import asyncio

    seen = []

    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async def send(message):
        seen.append(message.get("status"))

    layer = asgi.protect(app, source=ServerTLS(), allow={"/admin": ADMIN, "/": ALL})
    scope = {
        "type": "http",
        "method": "GET",
        "path": path,
        "headers": [],
        "extensions": {"tls": client.as_tls_extension()},
    }
    asyncio.run(layer(scope, None, send))
    return seen[0]


@pytest.mark.parametrize("status_of", [wsgi_status, asgi_status])
def test_each_certificate_gets_into_its_part_alone(status_of):
    assert [status_of(path, OPS) for path in ("/admin", "/", "//admin")] == [200, 403, 403]
    assert [status_of(path, WORKLOAD) for path in ("/admin/users", "/web", "/admin/../web")] == [403, 200, 403]
