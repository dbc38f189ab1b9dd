"""What `exempt` lets through, and what is attached there."""

from typing import Any

import pytest

from mtls_middleware.sources import ServerTLS
from mtls_middleware.testing import IssuedCertificate, TokenIssuer
from tests.gateways import Request, both_gateways, send
from tests.layers.world import CLIENT, SOMEBODY, behind_nginx, nested

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

    assert send(gateway, nested({"required": True, "exempt": exempt}), Request(path=path)).status == 403
    assert send(gateway, tokens, Request(path=path, tls=mtls_client)).status == 401
    assert send(gateway, tokens, Request(path="/health")).status == 200


@both_gateways
@pytest.mark.parametrize("path", ["/health", "/größe", "/a b", "/100%"])
def test_exempt_paths_are_written_decoded(gateway: str, path: str) -> None:
    wrap = nested({"required": True, "exempt": [path]})
    assert send(gateway, wrap, Request(path=path)).application.certificate is None


@both_gateways
def test_exempt_path_is_what_stands_behind_the_mount(gateway: str) -> None:
    wrap = nested({"required": True, "exempt": ["/health"], "root_path": "/api"})
    assert send(gateway, wrap, Request(root="/api", path="/health")).status == 200
    assert send(gateway, wrap, Request(path="/api/health")).status == 200  # the server does not know the mount
    assert send(gateway, wrap, Request(path="/health")).status == 200  # a proxy removed the root
    assert send(gateway, wrap, Request(root="/health", path="/admin")).status == 403
    assert send(gateway, wrap, Request(root="/health", path="")).status == 200  # "/health" below "/api"
    assert send(gateway, wrap, Request(path="/api/api/health")).status == 403


@both_gateways
def test_exempt_path_is_ambiguous_if_only_the_server_names_the_mount(gateway: str) -> None:
    wrap = nested({"required": True, "exempt": ["/health"]})
    assert send(gateway, wrap, Request(root="/api", path="/health")).status == 400
    assert send(gateway, wrap, Request(root="/health", path="/admin")).status == 403
    assert send(gateway, wrap, Request(root="/health", path="")).status == 400
    assert send(gateway, wrap, Request(path="/api/health")).status == 403


@pytest.mark.parametrize(
    ("root", "path", "status"),
    [
        ("/api", "/api/health", 400),
        ("/api", "/health", 400),  # servers that leave root_path out of path
        ("/api", "/api", 403),
        ("/api", "/apihealth", 400),  # Quart reads "/health"
        ("/api/health", "/api/health", 403),
        ("/health", "/health", 400),
        ("", "/health", 200),
        (None, "/health", 200),
    ],
)
def test_no_reading_of_a_path_below_a_root_is_exempt_alone(root: Any, path: str, status: int) -> None:
    wrap = nested({"required": True, "exempt": ["/health"]})
    assert send("asgi", wrap, Request(extra={"path": path, "root_path": root})).status == status


@both_gateways
@pytest.mark.parametrize("path", ["/health", "/other"])
def test_good_certificate_is_attached_on_exempt_paths_too(
    gateway: str, path: str, mtls_client: IssuedCertificate
) -> None:
    wrap = nested({"allow": CLIENT, "exempt": ["/health"]})
    assert send(gateway, wrap, behind_nginx(mtls_client, path=path)).application.certificate is not None


@both_gateways
def test_what_would_be_refused_is_none_on_exempt_paths(gateway: str, mtls_client: IssuedCertificate) -> None:
    for options, verify in (
        ({"allow": SOMEBODY}, "SUCCESS"),
        ({"allow": SOMEBODY, "required": False}, "SUCCESS"),
        ({"required": True}, "FAILED:self signed certificate"),
        ({}, "NONE"),  # malformed: a certificate beside the word for none
    ):
        wrap = nested({**options, "exempt": ["/health"]})
        seen = send(gateway, wrap, behind_nginx(mtls_client, verify, path="/health")).application
        assert seen.certificate is None
        assert not {"x-ssl-client-cert", "x-ssl-client-verify"} & seen.headers.keys()
        assert send(gateway, wrap, behind_nginx(mtls_client, verify, path="/")).status in {400, 403}


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
