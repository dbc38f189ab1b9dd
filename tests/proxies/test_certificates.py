"""Each proxy, configured by `proxy-config`: the certificate that the client presented is the one that is attached."""

import http.client
import json
import socket
import ssl

import pytest

from tests.proxies import matrix
from tests.proxies.client import connected, over_http1, over_http2
from tests.proxies.conftest import Stage, context

pytestmark = [
    pytest.mark.live,
    pytest.mark.parametrize("stage", [*matrix.SETUPS, *matrix.NO_SECRET], indirect=True, ids=str),
]


@pytest.mark.case("025", "029", "057")
@pytest.mark.parametrize("protocol", [over_http1, over_http2], ids=["http1", "http2"])
@pytest.mark.parametrize("kind", matrix.KINDS)
def test_the_presented_certificate_is_attached_as_the_table_says(stage: Stage, kind, protocol):
    answer = protocol(stage.port, context(kind), stage.path, [])
    expected = matrix.expected(stage.setup, kind)
    if expected == "refused":
        assert answer.status in (0, 400), answer
        return
    assert answer.report is not None, answer
    certificate = answer.report["certificate"]
    if expected == "none":
        assert certificate is None
        return
    verification, _, chain = expected.partition(" +")
    assert certificate == {
        "thumbprint": matrix.certificate(kind).thumbprint,
        "verification": verification,
        "chain": int(chain or 0),
    }


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["TLS 1.2", "TLS 1.3"])
@pytest.mark.parametrize("kind", matrix.ALERTS)
def test_a_rejected_client_gets_400_or_the_alert_of_the_table(stage: Stage, kind, version):
    if matrix.expected(stage.setup, kind) != "refused":
        return
    client = matrix.servers().client_context(matrix.certificate(kind))
    client.minimum_version = client.maximum_version = version
    try:
        with connected(stage.port, client, "http/1.1") as connection:
            connection.sendall(f"GET {stage.path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            response = http.client.HTTPResponse(connection)
            response.begin()
            got: object = response.status
    except http.client.RemoteDisconnected:
        got = "no alert"
    except OSError as error:
        got = getattr(error, "reason", None) or "no alert"
    if stage.setup.proxy in matrix.ANSWERS_400:
        assert got == 400
    elif version is ssl.TLSVersion.TLSv1_2:
        assert got == matrix.ALERTS[kind][1]
    else:
        assert got in ("no alert", "TLSV13_ALERT_CERTIFICATE_REQUIRED", matrix.ALERTS[kind][1])


@pytest.mark.case("063")
def test_a_kept_upstream_connection_carries_no_certificate_over(stage: Stage):
    for kind in ("RSA", "none", "SPIFFE", "none", "RSA"):
        answer = over_http1(stage.port, context(kind), stage.path, [])
        if matrix.expected(stage.setup, kind) == "refused":
            assert answer.status in (0, 400)
        else:
            report, issued = answer.report["certificate"], matrix.certificate(kind)
            assert (report and report["thumbprint"]) == (issued and issued.thumbprint)


@pytest.mark.case("064")
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["TLS 1.2", "TLS 1.3"])
def test_a_resumed_session_does_not_skip_verification(stage, version):
    client = matrix.servers().client_context(matrix.certificate("RSA"))
    client.maximum_version = version
    request = f"GET {stage.path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode()
    with connected(stage.port, client, "http/1.1") as first:
        first.sendall(request)
        report = answered(first)
        session = first.session  # a ticket of TLS 1.3 has come by now
    plain = socket.create_connection(("127.0.0.1", stage.port), timeout=20)
    with client.wrap_socket(plain, server_hostname="localhost", session=session) as second:
        second.sendall(request)
        assert answered(second) == report
        # Go verifies the certificate of a resumed session again.
        assert stage.setup.proxy in matrix.GO or not second.session_reused


def answered(connection: ssl.SSLSocket) -> object:
    response = http.client.HTTPResponse(connection)
    response.begin()
    assert response.status == 200
    report = json.loads(response.read())["certificate"]
    assert report["thumbprint"] == matrix.certificate("RSA").thumbprint
    return report


@pytest.mark.parametrize("kind", ["RSA", "expired"])
def test_the_proxy_passes_on_method_body_and_status(stage: Stage, kind):
    if matrix.expected(stage.setup, kind) == "refused":
        assert over_http1(stage.port, context(kind), stage.path, [], trailers=[]).status in (0, 400)
    else:  # nginx lets an expired certificate through by way of an error page
        posted = over_http1(stage.port, context(kind), stage.path, [], trailers=[])
        assert (posted.report["method"], posted.report["body"]) == ("POST", "x")
        assert over_http1(stage.port, context(kind), "/nowhere/", []).status == 404
