"""The soak, in short: the long form is run by hand (docs/tokens.md has its figures)."""

import asyncio

from tests.faults.soak import soak


def test_memory_stays_small_after_thousands_of_tokens_and_certificates() -> None:
    """The caches are not full yet, so memory may still grow: by 9 kB for a request."""
    memory = asyncio.run(soak(3000, samples=3))
    assert memory[-1] - memory[0] < 2000 * 0.02  # MB
