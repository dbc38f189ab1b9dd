"""`exempt_preflight`: which requests are a CORS preflight, and that nothing else passes."""

from typing import Any

import pytest

from mtls_middleware import ConfigurationError
from mtls_middleware.policy import ANYONE
from mtls_middleware.sources import ServerTLS
from mtls_middleware.testing import IssuedCertificate, TokenIssuer
from tests.gateways import MODULES, Request, both_gateways, scope_of, send
from tests.layers.world import CLIENT, SOMEBODY, behind_nginx, nested

ORIGIN, ASKED = ("Origin", "https://front.test"), ("Access-Control-Request-Method", "DELETE")
PREFLIGHT = Request(method="OPTIONS", path="/invoices", headers=[ORIGIN, ASKED])


@both_gateways
def test_a_preflight_is_rejected_by_default(gateway: str) -> None:
    assert send(gateway, nested({"allow": CLIENT}), PREFLIGHT).status == 403


@both_gateways
def test_a_preflight_passes_both_layers(gateway: str, mtls_issuer: TokenIssuer) -> None:
    def wrap(module: Any, app: Any) -> Any:
        return module.protect(app, source=ServerTLS(), tokens=mtls_issuer.access_tokens(), exempt_preflight=True)

    seen = send(gateway, wrap, PREFLIGHT).application
    assert (seen.certificate, seen.token) == (None, None)
    assert send(gateway, wrap, Request(path="/invoices", headers=[ORIGIN, ASKED])).status == 401


@both_gateways
@pytest.mark.parametrize("path", ["/admin", "/", "*", "//admin", "/a/../admin", ""])
def test_a_preflight_passes_whatever_the_path(gateway: str, path: str) -> None:
    wrap = nested({"allow": {"/": CLIENT, "/admin": SOMEBODY}, "exempt_preflight": True})
    for root in ("", "/admin"):
        request = Request(method="OPTIONS", path=path, root=root, headers=[ORIGIN, ASKED])
        assert send(gateway, wrap, request).application.certificate is None


NO_PREFLIGHT: dict[str, Request] = {
    "no Origin": Request(method="OPTIONS", headers=[ASKED]),
    "no Access-Control-Request-Method": Request(method="OPTIONS", headers=[ORIGIN]),
    "neither": Request(method="OPTIONS"),
    "lower case, which Django takes for OPTIONS": Request(method="options", headers=[ORIGIN, ASKED]),
    "a blank after the method": Request(method="OPTIONS ", headers=[ORIGIN, ASKED]),
    "X-HTTP-Method-Override": Request(method="OPTIONS", headers=[ORIGIN, ASKED, ("X-HTTP-Method-Override", "DELETE")]),
    "X-HTTP-Method": Request(method="OPTIONS", headers=[ORIGIN, ASKED, ("X-HTTP-Method", "DELETE")]),
    "X-Method-Override": Request(method="OPTIONS", headers=[ORIGIN, ASKED, ("X-Method-Override", "DELETE")]),
    "a spelling that Django folds": Request(
        method="OPTIONS", headers=[ORIGIN, ASKED, ("X_HTTP_Method-Override", "DELETE")]
    ),
    "X-Forwarded-Method": Request(method="OPTIONS", headers=[ORIGIN, ASKED, ("X-Forwarded-Method", "DELETE")]),
    "two origins": Request(method="OPTIONS", headers=[ORIGIN, ASKED, ORIGIN]),
    "two methods": Request(method="OPTIONS", headers=[ORIGIN, ASKED, ASKED]),
    "two origins in one field": Request(method="OPTIONS", headers=[("Origin", "https://a, https://b"), ASKED]),
    "two methods in one field": Request(method="OPTIONS", headers=[ORIGIN, (ASKED[0], "GET,DELETE")]),
    "an empty Origin": Request(method="OPTIONS", headers=[("Origin", ""), ASKED]),
    "an empty method": Request(method="OPTIONS", headers=[ORIGIN, (ASKED[0], "")]),
    "a method with a blank": Request(method="OPTIONS", headers=[ORIGIN, (ASKED[0], "GET x")]),
    **{
        method: Request(method=method, headers=[ORIGIN, ASKED])
        for method in ("GET", "POST", "DELETE", "HEAD", "TRACE", "")
    },
}


@both_gateways
@pytest.mark.parametrize("case", NO_PREFLIGHT)
def test_another_request_is_not_a_preflight(gateway: str, case: str) -> None:
    wrap = nested({"allow": CLIENT, "exempt_preflight": True})
    assert send(gateway, wrap, NO_PREFLIGHT[case]).status == 403


@both_gateways
@pytest.mark.parametrize(
    "headers",
    [
        [("Origin", "null"), ASKED],
        [ORIGIN, (ASKED[0], "M-SEARCH")],
        [ORIGIN, ASKED, ("Access-Control-Request-Headers", "authorization,x-http-method-override")],
        [ORIGIN, ASKED, ("X-Forwarded-Method", "OPTIONS")],
        [ORIGIN, ASKED, ("Access-Control-Request-Private-Network", "true")],
    ],
)
def test_other_preflights_of_browsers_and_proxies_pass(gateway: str, headers: list[tuple[str, str]]) -> None:
    wrap = nested({"allow": CLIENT, "exempt_preflight": True})
    assert send(gateway, wrap, Request(method="OPTIONS", headers=headers)).status == 200


def test_a_websocket_is_not_a_preflight() -> None:
    from tests.gateways import exchange

    scope = scope_of(PREFLIGHT, "websocket") | {"method": "OPTIONS"}
    app = nested({"allow": CLIENT, "exempt_preflight": True})(MODULES["asgi"], reached)
    sent = exchange(app, scope, [{"type": "websocket.connect"}])
    assert [each["type"] for each in sent] == ["websocket.close"]


async def reached(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "websocket.accept"})


@both_gateways
def test_what_would_be_rejected_is_not_attached_to_a_preflight(gateway: str, mtls_client: IssuedCertificate) -> None:
    def seen(allow: Any) -> Any:
        sent = behind_nginx(mtls_client, method="OPTIONS").with_headers(ORIGIN, ASKED)
        return send(gateway, nested({"allow": allow, "exempt_preflight": True}), sent).application

    assert seen(CLIENT).certificate == mtls_client.client_certificate()
    assert seen(SOMEBODY).certificate is None
    assert seen({"/": SOMEBODY, "/x": ANYONE}).certificate is None
    assert "x-ssl-client-cert" not in seen(SOMEBODY).headers


@both_gateways
@pytest.mark.parametrize("given", ["yes", None, 2, ["/x"]])
def test_the_option_is_true_or_false(gateway: str, given: Any) -> None:
    with pytest.raises(ConfigurationError, match="exempt_preflight="):
        MODULES[gateway].protect(lambda *_: None, source=ServerTLS(), exempt_preflight=given)
