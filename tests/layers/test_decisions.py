"""What the layers tell the operator."""

import logging
from typing import Any

import pytest

from mtls_middleware.sources import ServerTLS
from mtls_middleware.testing import IssuedCertificate, TokenIssuer
from tests.gateways import PROXY, STRANGER, Request, Wrap, both_gateways, send
from tests.layers.world import SOMEBODY, behind_nginx, nested


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
        "level": "WARNING",  # the first of its kind
        "schema": 1,
        "outcome": "refused",
        "layer": "token",
        "status": 401,
        "code": "invalid_token",
        "evidence": ("the token does not consist of three parts in base64url",),
        "method": "GET",
        "path": "/invoices",
        "peer": PROXY,
        "expires_in_days": 89,
        "thumbprint": mtls_client.thumbprint,
        "verification": "BY_SERVER",
        "cached": False,
        **dict.fromkeys(("found", "expected", "advice", "left_out", "bound", "issuer", "key_id", "client_id")),
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
        "schema": 1,
        "outcome": "allowed",
        "layer": "token",
        "method": "GET",
        "path": "/invoices",
        "peer": PROXY,
        "expires_in_days": 89,
        "thumbprint": mtls_client.thumbprint,
        "verification": "BY_SERVER",
        "bound": True,
        "cached": False,
        "issuer": mtls_issuer.issuer,
        "key_id": mtls_issuer.jwks["keys"][0]["kid"],
        "client_id": "client",
    }
    assert token not in caplog.text


@both_gateways
def test_no_log_record_is_created_below_the_logger_level(
    gateway: str, mtls_client: IssuedCertificate, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "mtls_middleware.decision")
    send(gateway, nested({}), behind_nginx(mtls_client))
    assert not caplog.records
    for _ in range(2):
        send(gateway, nested({"allow": SOMEBODY}), behind_nginx(mtls_client))
    assert len(caplog.records) == 1  # the first of its kind


@both_gateways
def test_certificate_that_is_not_allowed_is_named_by_its_thumbprint(
    gateway: str, mtls_client: IssuedCertificate, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    send(gateway, nested({"allow": SOMEBODY}), behind_nginx(mtls_client))
    assert mtls_client.thumbprint in caplog.text
    assert "CN=client" not in caplog.text


@both_gateways
@pytest.mark.standard("I9")
def test_ignored_header_is_worth_a_line(
    gateway: str, mtls_client: IssuedCertificate, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    send(gateway, nested({}), behind_nginx(mtls_client, peer=STRANGER))
    assert "header is ignored: the peer's address is not in trusted_proxies" in caplog.text


@both_gateways
def test_headers_of_strangers_fill_no_log(
    gateway: str, mtls_client: IssuedCertificate, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    for _ in range(500):
        send(gateway, nested({}), behind_nginx(mtls_client, peer=STRANGER))
    assert caplog.text.count("header is ignored") < 100
