"""OCSP for the certificates of a path: their exchanges run at the same time, and each has its own result."""

import asyncio
import threading
import time
from contextlib import ExitStack

import pytest

from mtls_middleware.effects.exchange import Fetch, FetchFailed, Response
from mtls_middleware.effects.flow import AwaitingDriver, BlockingDriver
from mtls_middleware.errors import Refused, Unavailable
from mtls_middleware.validation import OCSP
from mtls_middleware.validation.revocation import status_requests
from tests.key_server import until
from tests.validation.responder import REVOKED, UNKNOWN, Responder
from tests.validation.test_ocsp import outcome, store_of
from tests.validation.test_ocsp_attempts import ended
from tests.validation.verdicts import presented

TOO_MANY = FetchFailed("too many exchanges for this client", retry_after=3)


class Path:
    """A leaf below two CAs, and one responder for each issuer. `responders`: that of the leaf's issuer is the first."""

    def __init__(self, ca):
        upper = ca.intermediate("CN=upper")
        self.ca, self.lower = ca, upper.intermediate("CN=lower")
        self.client = self.lower.issue()
        self.responders = [Responder(each) for each in (self.lower, upper, ca)]

    def source(self, **options):
        return OCSP({each.ca.certificate: each.url for each in self.responders}, **options)

    @property
    def asked(self):
        return [len(each.asked) for each in self.responders]


@pytest.fixture
def path(ca):
    found = Path(ca)
    with ExitStack() as stack:
        for each in found.responders:
            stack.enter_context(each)
        yield found


def validate(gateway, store, certificate):
    flow = store.validate(presented(certificate), time.time())
    try:
        if gateway == "WSGI":
            BlockingDriver().run(flow)
        else:
            asyncio.run(AwaitingDriver().run(flow))
    except Refused:
        return "refused"
    except Unavailable:
        return "unavailable"
    return "good"


@pytest.mark.parametrize("gateway", ["WSGI", "ASGI"])
def test_all_responders_of_a_path_are_asked_at_the_same_time(path, gateway):
    for each in path.responders:
        each.stall = 60
    found = []
    store = store_of(path.ca, path.source(timeout=30))
    thread = threading.Thread(target=lambda: found.append(validate(gateway, store, path.client)))
    thread.start()
    until(lambda: path.asked == [1, 1, 1], seconds=20)
    for each in path.responders:
        each.release()
    thread.join()
    assert found == ["good"]
    assert path.asked == [1, 1, 1]


def test_dead_responders_of_a_path_cost_one_timeout(path):
    for each in path.responders:
        each.stall = 60
    began = time.monotonic()
    assert outcome(store_of(path.ca, path.source(timeout=2)), path.client, time.time()) == "unavailable"
    assert time.monotonic() - began < 4  # one after another, they take 6 seconds


@pytest.mark.parametrize("position", [0, 1, 2])
@pytest.mark.parametrize("status", [REVOKED, UNKNOWN])
def test_a_bad_status_anywhere_in_the_path_rejects_the_client(path, position, status):
    path.responders[position].options["status"] = status
    for soft_fail in (False, True):
        assert outcome(store_of(path.ca, path.source(soft_fail=soft_fail)), path.client, time.time()) == "refused"


@pytest.mark.parametrize("position", [0, 1, 2])
def test_one_failure_anywhere_in_the_path_is_503(path, position):
    path.responders[position].http_status = 500
    store = store_of(path.ca, path.source())
    now = time.time()
    assert outcome(store, path.client, now) == "unavailable"
    path.responders[position].http_status = 200
    assert outcome(store, path.client, now + 2) == "good"
    assert path.asked == [2 if number == position else 1 for number in range(3)]


def test_a_revocation_counts_while_other_responders_are_dead(path):
    path.responders[2].options["status"] = REVOKED
    for each in path.responders[:2]:
        each.stall = 60
    assert outcome(store_of(path.ca, path.source(timeout=0.5)), path.client, time.time()) == "refused"


def test_a_status_that_is_not_cached_needs_one_exchange_for_each_request(path):
    for each in path.responders:
        each.options["ends"] = None
    store = store_of(path.ca, path.source())
    for number in (1, 2, 3):
        assert outcome(store, path.client, time.time()) == "good"
        assert path.asked == [number] * 3


def test_the_statuses_of_the_cas_are_cached_for_all_their_clients(path):
    store = store_of(path.ca, path.source())
    for _ in range(3):
        assert outcome(store, path.lower.issue(), time.time()) == "good"
    assert path.asked == [3, 1, 1]


def test_with_leaf_only_the_responders_of_cas_are_not_asked(path):
    assert outcome(store_of(path.ca, path.source(leaf_only=True)), path.client, time.time()) == "good"
    assert path.asked == [1, 0, 0]


def responded(fetch, responder):
    """End an exchange with the response of this responder."""
    response = Response(200, responder.response(fetch.content))
    fetch.outcome.set_result(response)
    return response


def test_a_client_at_its_limit_does_not_end_the_exchanges_of_cas(path):
    # The exchanges for CAs do not count for a client, because every client of these CAs needs their results.
    source, now = path.source(), time.time()
    requests = status_requests([path.client.x509, *path.client.chain, path.ca.certificate])
    flow = source.statuses(requests, now)
    upper, root = next(flow).fetch, flow.send(None).fetch
    assert upper.claim()
    assert root.claim()
    leaf = flow.send(None)
    assert flow.throw(TOO_MANY) is upper
    assert flow.send(responded(upper, path.responders[1])) is root
    found = ended(flow, responded(root, path.responders[2]))
    assert (found.status, found.retry_after) == ("unavailable", 3)
    assert leaf.result().retry_after == 3
    flow = source.statuses(requests, now + 2)
    leaf = next(flow)
    assert isinstance(leaf, Fetch)  # and no exchange for a CA
    assert ended(flow, responded(leaf, path.responders[0])).status == "good"
