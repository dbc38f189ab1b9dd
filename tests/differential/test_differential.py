"""A stack that lives long answers each request as a stack without caches does.

`MTLS_DIFFERENTIAL_REQUESTS` sets the number of requests in total; `python -m tests.differential` is the long form.
"""

import os

import pytest

from tests.differential.compare import GATEWAYS, compare
from tests.differential.material import Material, new_material

SEEDS = range(5)
REQUESTS = int(os.environ.get("MTLS_DIFFERENTIAL_REQUESTS", "10000")) // len(SEEDS)


@pytest.fixture(scope="module")
def material() -> Material:
    return new_material()


@pytest.mark.parametrize("seed", SEEDS)
def test_lasting_stack_answers_as_one_without_caches(seed: int, material: Material) -> None:
    tally = compare(seed, REQUESTS, material)
    assert tally.requests >= REQUESTS
    assert tally.accepted >= tally.requests / 5
    # Otherwise the test would also pass with a cache that is never used.
    assert all(tally.cached[gateway] >= tally.accepted / 10 for gateway in GATEWAYS)
