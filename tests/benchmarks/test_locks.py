"""What a thread holds while it verifies: nothing that another request waits for."""

import threading

import jwt
import pytest

from mtls_middleware.validation import TrustStore, chain
from tests.benchmarks import stacks
from tests.benchmarks.carriers import GATEWAYS, Application

PATIENCE = 30  # seconds until a thread that should not wait is taken to wait


class Held:
    """A method whose first caller stays in there until `go_on`."""

    def __init__(self, monkeypatch, owner, name):
        self.entered, self.go_on = threading.Event(), threading.Event()
        self.calls, method = 0, getattr(owner, name)

        def held(*arguments):
            self.calls += 1
            if self.calls == 1:
                self.entered.set()
                assert self.go_on.wait(2 * PATIENCE)
            return method(*arguments)

        monkeypatch.setattr(owner, name, held)


def one_passes_while_another_is_held(held, run, carriers):
    first, second = (threading.Thread(target=run, args=(each,), daemon=True) for each in carriers)
    first.start()
    assert held.entered.wait(PATIENCE)
    try:
        second.start()
        second.join(PATIENCE)
        assert not second.is_alive()
        assert first.is_alive()
    finally:
        held.go_on.set()
    first.join(PATIENCE)
    assert held.calls == 2


@pytest.mark.parametrize("gateway", GATEWAYS, ids=lambda each: each.name)
def test_a_signature_that_takes_long_keeps_no_other_new_token_waiting(gateway, monkeypatch):
    held = Held(monkeypatch, jwt.algorithms.ECAlgorithm, "verify")
    application = Application()
    app = stacks.full_stack(gateway.name, getattr(application, gateway.name), stacks.RFC9440)
    pairs = [stacks.headers(stacks.RFC9440, stacks.client(), stacks.token()) for _ in range(2)]
    one_passes_while_another_is_held(held, gateway.runner(app), map(gateway.carrier, pairs))
    assert application.reached == 2


@pytest.mark.parametrize("gateway", GATEWAYS, ids=lambda each: each.name)
def test_a_chain_that_takes_long_keeps_no_other_new_certificate_waiting(gateway, monkeypatch):
    held = Held(monkeypatch, chain.Roots, "path")
    application, ca = Application(), stacks.authority()
    app = stacks.MODULES[gateway.name].ClientCertificateMiddleware(
        getattr(application, gateway.name),
        stacks.RFC9440.source(),
        trust_store=TrustStore([ca.certificate]),
        required=True,
    )
    pairs = [stacks.headers(stacks.RFC9440, ca.issue()) for _ in range(2)]
    one_passes_while_another_is_held(held, gateway.runner(app), map(gateway.carrier, pairs))
    assert application.reached == 2
