"""Which paths and methods are a token endpoint."""

from dataclasses import replace
from typing import Any

import pytest

from mtls_middleware import ConfigurationError
from tests.gateways import MODULES, both_gateways, exchange, scope_of
from tests.token_endpoint.layer import GOOD, LAYERS, error
from tests.token_endpoint.posts import layers, send
from tests.token_endpoint.registrations import AUTHENTICATOR, CLIENTS


@both_gateways
@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "post", "Post", ""])
def test_another_method_than_post_is_405(gateway: str, method: str) -> None:
    outcome = send(gateway, LAYERS, replace(GOOD, method=method))
    assert (outcome.status, outcome.header("Allow")) == (405, "POST")
    assert not outcome.reached
    assert bool(outcome.body) is (method != "HEAD")


@both_gateways
@pytest.mark.parametrize(
    "path",
    ["/", "/token/", "//token", "/TOKEN", "/token;x", "/token%20", "/token ", "/x/token", "/./token", "/token\0", ""],
)
def test_every_other_path_passes_without_an_attached_client(gateway: str, path: str) -> None:
    for method in ("POST", "GET"):
        outcome = send(gateway, LAYERS, replace(GOOD, path=path, method=method))
        assert outcome.reached
        assert outcome.client is None


@both_gateways
def test_paths_are_what_the_application_routes_on(gateway: str) -> None:
    wrap = layers(AUTHENTICATOR, paths=["/token", "/introspect", "/b\u00fccher"])
    mounted = layers(AUTHENTICATOR, paths=["/token", "/introspect", "/b\u00fccher"], root_path="/oauth")
    for path in ("/token", "/introspect", "/b\u00fccher"):
        assert send(gateway, wrap, replace(GOOD, path=path)).client is CLIENTS["billing"]
        assert error(send(gateway, wrap, replace(GOOD, path=path, root="/oauth"))) == "400 ambiguous_path"
        assert send(gateway, mounted, replace(GOOD, path=path, root="/oauth")).client is CLIENTS["billing"]
        assert send(gateway, wrap, replace(GOOD, path=path, query="a=b")).client is CLIENTS["billing"]
    assert send(gateway, wrap, replace(GOOD, path="/revoke")).client is None


@both_gateways
@pytest.mark.standard("B21")
def test_each_endpoint_of_the_list_is_one(gateway: str) -> None:
    wrap = layers(AUTHENTICATOR, paths={"/introspect", "/revoke", "/par", "/bc-authorize"})
    for path in ("/introspect", "/revoke", "/par", "/bc-authorize"):
        assert send(gateway, wrap, replace(GOOD, path=path)).client is CLIENTS["billing"]
        assert error(send(gateway, wrap, replace(GOOD, path=path, certificate=None))) == "401 invalid_client"


@pytest.mark.case("144")
def test_a_websocket_at_a_token_endpoint_is_closed() -> None:
    async def application(scope: Any, receive: Any, send: Any) -> None:
        pytest.fail("reached")

    app = LAYERS(MODULES["asgi"], application)
    sent = exchange(app, scope_of(GOOD.request, "websocket"), [{"type": "websocket.connect"}])
    assert [each["type"] for each in sent] == ["websocket.close"]


@pytest.mark.parametrize("module", MODULES.values())
@pytest.mark.parametrize("path", ["token", "/token/*", "*", "/o/<name>", "", "https://as.test/token"])
def test_a_path_that_would_match_nothing_is_refused(module: Any, path: str) -> None:
    with pytest.raises(ConfigurationError, match="paths: "):
        module.ClientAuthenticationMiddleware(lambda *_: None, AUTHENTICATOR, paths=["/introspect", path])
