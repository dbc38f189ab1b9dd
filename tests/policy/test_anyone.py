"""`ANYONE` is the value of a path in `allow`, and nothing else."""

import copy
import pickle
from typing import Any

import pytest

from mtls_middleware import ConfigurationError
from mtls_middleware.policy import ANYONE, Presented, Subject, as_rule
from tests.gateways import MODULES

RULE = Subject("CN=ops,O=Acme")

MISUSES: dict[str, Any] = {
    "ANYONE & rule": lambda: ANYONE & RULE,
    "ANYONE | rule": lambda: ANYONE | RULE,
    "rule & ANYONE": lambda: RULE & ANYONE,
    "rule | ANYONE": lambda: RULE | ANYONE,
    "callable & ANYONE": lambda: (lambda _: True) & ANYONE,
    "callable | ANYONE": lambda: (lambda _: True) | ANYONE,
    "ANYONE & ANYONE": lambda: ANYONE & ANYONE,
    "~ANYONE": lambda: ~ANYONE,
    "ANYONE or rule": lambda: ANYONE or RULE,
    "not ANYONE": lambda: not ANYONE,
    "Presented(ANYONE)": lambda: Presented(ANYONE),
    "as_rule(ANYONE)": lambda: as_rule(ANYONE),
}


@pytest.mark.parametrize("misuse", MISUSES)
def test_anyone_cannot_be_part_of_a_rule(misuse: str) -> None:
    with pytest.raises(ConfigurationError, match="ANYONE is not a rule"):
        MISUSES[misuse]()


@pytest.mark.parametrize("gateway", MODULES.values())
def test_anyone_is_rejected_as_the_rule_for_every_path(gateway: Any) -> None:
    from mtls_middleware.sources import ServerTLS

    with pytest.raises(ConfigurationError, match="ANYONE is not a rule"):
        gateway.ClientCertificateMiddleware(lambda *_: None, ServerTLS(), allow=ANYONE)


def test_a_copy_is_the_same_object() -> None:
    assert copy.deepcopy(ANYONE) is ANYONE
    assert pickle.loads(pickle.dumps(ANYONE)) is ANYONE
    assert repr(ANYONE) == "ANYONE"
