"""What a request, or an observer, may write into the operator's records."""

import logging
from collections.abc import Iterator
from typing import Any

import pytest

from mtls_middleware.layers import decisions
from mtls_middleware.policy import Subject
from mtls_middleware.sources import ServerTLS
from mtls_middleware.testing import IssuedCertificate, TokenIssuer
from tests.gateways import Request, Wrap, both_gateways, send

HOSTILE = "/a\r\n\x1b[2J\x00\x85\u2028\u202e\x9b31m%s%(x)s{outcome}\\\udcff\U000e0001 outcome=allowed"


def wrap(module: Any, app: Any) -> Any:
    return module.ClientCertificateMiddleware(app, ServerTLS(), allow=Subject("CN=client,O=Tests"), exempt=["/open"])


def with_tokens(issuer: TokenIssuer) -> Wrap:
    return lambda module, app: module.protect(app, source=ServerTLS(), tokens=issuer.access_tokens())


@pytest.fixture
def records_of() -> Iterator[list[Any]]:
    found: list[Any] = []
    stop = decisions.observe(found.append)
    yield found
    stop()


@both_gateways
@pytest.mark.parametrize("name", ["method", "path", "query", "peer", "X-Forwarded-For", "Authorization"])
def test_nothing_of_a_request_breaks_the_line(
    gateway: str, name: str, mtls_client: IssuedCertificate, mtls_issuer: TokenIssuer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    value = HOSTILE.encode("utf-8", "surrogatepass").decode("latin-1")
    extra: dict[str, Any] = {"method": value, "REQUEST_METHOD": value} if name == "method" else {}
    if name == "path":
        extra = {"path": HOSTILE, "PATH_INFO": value}
    headers = [(name, value)] if name[0].isupper() else []
    for tls in (None, mtls_client):
        request = Request(
            headers=headers, tls=tls, extra=extra, query=value if name == "query" else "",
            **({"peer": value} if name == "peer" else {}),
        )  # fmt: skip
        send(gateway, wrap, request)
        send(gateway, with_tokens(mtls_issuer), request)
    lines = [each.getMessage() for each in caplog.records if each.name.startswith("mtls_middleware")]
    assert len(lines) >= 4
    assert [line for line in lines if not (line.isascii() and line.isprintable())] == []


@both_gateways
def test_the_length_of_a_line_is_bounded(gateway: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    path = "/" + "\u00e9" * 30_000
    send(gateway, wrap, Request(path=path, extra={"method": "A" * 60_000, "REQUEST_METHOD": "A" * 60_000}))
    (found,) = (each for each in caplog.records if each.name == "mtls_middleware.decision")
    assert len(found.getMessage()) < 7_000
    assert "' and 59000 more characters" in found.getMessage()
    assert vars(found)["mtls"]["path"] == path


@both_gateways
def test_a_token_that_is_well_signed_breaks_no_line(
    gateway: str, mtls_client: IssuedCertificate, mtls_issuer: TokenIssuer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    text = mtls_issuer.token(certificate=mtls_client, claims={"client_id": HOSTILE, "sub": HOSTILE, "jti": HOSTILE})
    request = Request(tls=mtls_client, headers=[("Authorization", f"Bearer {text}")])
    assert send(gateway, with_tokens(mtls_issuer), request).status == 200
    assert "client_id='/a\\r\\n" in caplog.text
    assert all(each.getMessage().isascii() and each.getMessage().isprintable() for each in caplog.records)


@both_gateways
def test_an_observer_cannot_change_the_decision_or_the_record(
    gateway: str, records_of: list[Any], mtls_client: IssuedCertificate, caplog: pytest.LogCaptureFixture
) -> None:
    def vandal(record: Any) -> None:
        record.clear()

    def liar(record: Any) -> None:
        record["outcome"], record["path"] = "allowed", "/public"

    caplog.set_level(logging.INFO)
    stops = [decisions.observe(vandal), decisions.observe(liar)]
    try:
        assert send(gateway, wrap, Request(path="/private")).status == 403
        assert send(gateway, wrap, Request(path="/private", tls=mtls_client)).status == 200
    finally:
        for stop in stops:
            stop()
    written = [vars(each)["mtls"] for each in caplog.records if "mtls" in vars(each)]
    assert [(each["outcome"], each["path"]) for each in written] == [("refused", "/private"), ("allowed", "/private")]
    assert [dict(each) for each in records_of] == written
