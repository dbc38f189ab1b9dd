"""A clock that a test moves: the one that the gateways read for each request."""

import time

import pytest


class Clock:
    """`time.time()` is `now` for as long as the fixture lives."""

    def __init__(self) -> None:
        self.now = float(int(time.time()))

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    moved = Clock()
    monkeypatch.setattr(time, "time", moved)
    return moved
