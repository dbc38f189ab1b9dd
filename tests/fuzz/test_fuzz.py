"""A part of the fuzzing that `python -m tests.fuzz` does for an hour: no untyped exception."""

from random import Random

import pytest

from tests.fuzz.mutations import LONGEST, mutated
from tests.fuzz.run import fuzz
from tests.fuzz.targets import TARGETS, Target

# The number of inputs ends a test, also on a slow machine.
SECONDS, INPUTS = 60, 1_000


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", TARGETS)
def test_no_input_raises_an_exception_of_another_type(name: str) -> None:
    found = fuzz(TARGETS[name], Random(name), SECONDS, INPUTS)
    assert found.failures == {}
    assert found.accepted > 0


def test_an_exception_of_another_type_is_found() -> None:
    def parse(data: bytes, _random: Random) -> None:
        if b"," in data:
            raise KeyError

    found = fuzz(Target(parse, [b"a"], (ValueError,)), Random(1), 10, 3_000)
    ((place, data),) = found.failures.items()
    assert place.startswith("KeyError in test_fuzz.py")
    assert b"," in data


def test_inputs_are_bounded() -> None:
    random = Random(1)
    data = b"a" * 60_000
    for _ in range(300):
        data = mutated(data, random)
        assert len(data) <= LONGEST
