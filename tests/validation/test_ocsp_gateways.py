"""OCSP behind both gateways: what the client gets, and that a cached decision ends with the response."""

import pytest

from mtls_middleware.sources import ServerTLS
from mtls_middleware.validation import OCSP, TrustStore
from tests.gateways import Request, both_gateways, send, standing
from tests.layers.clock import clock
from tests.validation.authority import HOUR
from tests.validation.responder import REVOKED, UNKNOWN, Responder

__all__ = ["clock"]


@pytest.fixture
def client(ca):
    return ca.issue("CN=billing")


@pytest.fixture
def server(ca):
    with Responder(ca) as running:
        yield running


def status_of(gateway, ca, client, server, **options):
    """A function that sends one request to standing layers, and returns the status of the response."""
    store = TrustStore([ca.certificate], revocation=[OCSP(server.url, **options)])
    wrap = standing(gateway, lambda module, app: module.protect(app, source=ServerTLS(), trust_store=store))
    request = Request(tls=client)

    def sent():
        found = send(gateway, wrap, request)
        if found.status == 503:
            assert int(found.header("Retry-After")) >= 1
        return found.status

    return sent


@both_gateways
@pytest.mark.parametrize(("status", "expected"), [(None, 200), (REVOKED, 403), (UNKNOWN, 403)])
def test_the_status_of_the_certificate_is_that_of_the_response(gateway, ca, client, server, status, expected):  # noqa: PLR0917 (fixtures)
    if status is not None:
        server.options["status"] = status
    assert status_of(gateway, ca, client, server)() == expected


@both_gateways
def test_a_revocation_takes_effect_when_the_cached_response_ends(gateway, ca, client, server, clock):
    sent = status_of(gateway, ca, client, server)
    server.options |= {"ends": 100, "now": clock.now}
    assert [sent(), sent()] == [200, 200]
    assert len(server.asked) == 1
    server.options |= {"status": REVOKED, "ends": HOUR}
    clock.now += 79
    assert sent() == 200
    clock.now += 21
    assert sent() == 403
    assert len(server.asked) == 2


@both_gateways
def test_a_dead_responder_is_503_when_the_cached_response_ends(gateway, ca, client, clock):
    with Responder(ca, now=clock.now, ends=100) as server:
        sent = status_of(gateway, ca, client, server)
        assert sent() == 200
    clock.now += 99
    assert sent() == 200
    clock.now += 1
    assert sent() == 503


@both_gateways
def test_a_response_without_next_update_is_looked_up_for_each_request(gateway, ca, client, server):
    server.options["ends"] = None
    sent = status_of(gateway, ca, client, server)
    assert [sent(), sent()] == [200, 200]
    assert len(server.asked) == 2


@both_gateways
def test_a_clock_that_was_set_back_ends_the_cached_decision(gateway, ca, client, server, clock):
    server.options |= {"now": clock.now, "ends": 24 * HOUR}
    clock.now += HOUR
    sent = status_of(gateway, ca, client, server)
    assert sent() == 200
    server.options["status"] = REVOKED
    clock.now -= HOUR
    assert sent() == 403


@both_gateways
def test_soft_fail_is_logged_for_each_request(gateway, ca, client, server, caplog):
    caplog.set_level("INFO", "mtls_middleware.validation")
    server.http_status = 500
    sent = status_of(gateway, ca, client, server, soft_fail=True)
    assert [sent() for _ in range(3)] == [200] * 3
    assert sum("accepted because of soft_fail" in each for each in caplog.messages) == 3
