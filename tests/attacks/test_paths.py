"""Paths that are exempt to us and another path to the application."""

from typing import Any
from urllib.parse import unquote_to_bytes

import pytest
from hypothesis import given
from hypothesis import strategies as st
from werkzeug.wrappers import Request as WerkzeugRequest

from mtls_middleware.layers.paths import PathRules
from mtls_middleware.policy import Thumbprint
from mtls_middleware.sources import ServerTLS
from tests.gateways import Request, environ_of, send


def protected(*exempt: str) -> Any:
    return lambda module, app: module.protect(app, source=ServerTLS(), exempt=exempt)


@pytest.mark.case("148")
@pytest.mark.parametrize("quoted", ["/caf%E9", "/%FF", "/a%C3", "/caf%C3%A9%E9", "/%C0%AFhealth"])
def test_a_path_that_is_not_utf_8_is_matched_as_the_framework_routes_it(quoted: str) -> None:
    """Read as latin-1, `/caf%E9` would be exempt where `/caf\u00e9` is, and fall to a catch-all route behind it."""
    as_latin_1 = unquote_to_bytes(quoted).decode("latin-1")
    request = Request(extra={"PATH_INFO": as_latin_1})
    routed = WerkzeugRequest(environ_of(request)).path
    assert routed != as_latin_1
    assert send("wsgi", protected(as_latin_1), request).status == 403
    assert send("wsgi", protected(routed), request).status == 200


@pytest.mark.case("148")
@pytest.mark.parametrize("path", ["/caf\u00e9", "/\u20ac/\U0001f512"])
def test_a_path_in_utf_8_is_exempt_in_both_gateways(path: str) -> None:
    for gateway in ("wsgi", "asgi"):
        assert send(gateway, protected(path), Request(path=path)).status == 200
        assert send(gateway, protected(path + "x"), Request(path=path)).status == 403


@pytest.mark.parametrize(
    ("root", "path"),
    [
        ("/api", "/apihealth"), ("/api", "/api/api/health"), ("/api", "/x/health"), ("/api/", "/api/health/"),
        ("/health", "/health"), ("/api", "/api%2fhealth"), ("/api", "/api//health"), ("/api", "/API/health"),
    ],
)  # fmt: skip
def test_a_mount_does_not_make_another_path_exempt(root: str, path: str) -> None:
    scope = {"path": path, "root_path": root}
    assert send("asgi", protected("/health"), Request(extra=scope)).status in {400, 403}


@pytest.mark.case("151")
@pytest.mark.parametrize("field", ["Host", "X-Original-URL", "X-Rewrite-URL", "X-Forwarded-Prefix", "X-Script-Name"])
def test_no_field_that_speaks_of_paths_makes_one_exempt(field: str) -> None:
    for gateway in ("wsgi", "asgi"):
        forged = Request(path="/private", headers=[(field, "/health")])
        assert send(gateway, protected("/health"), forged).status == 403


@given(st.lists(st.sampled_from(["a", "ab", "b", "abc"]), max_size=5).map(lambda parts: "/" + "/".join(parts)))
def test_the_rule_is_that_of_the_longest_path_above_whatever_its_length(path: str) -> None:
    named = {each: Thumbprint("A" * 43) for each in ("/", "/a", "/ab", "/a/b", "/abc/ab/a")}
    above = [each for each in named if each == path or path.startswith(each.rstrip("/") + "/")]
    assert PathRules(named).of(path) is named[max(above, key=len)]
