"""Clients that show the current token again and again, in threads, while its issuer's keys come and go."""

import threading
import time
from typing import Any, Self

from mtls_middleware import Refused
from mtls_middleware.effects.flow import BlockingDriver
from mtls_middleware.effects.remote_document import COOL_DOWN
from mtls_middleware.resource_server import JWTAccessTokens
from tests.key_server import until


class Load:
    """`with Load(tokens, text) as load:` then `load.passes(seconds)`, `load.show(text)`, `load.refused`."""

    def __init__(self, tokens: JWTAccessTokens, text: str, *, clients: int = 8) -> None:
        self.tokens, self.text, self.now = tokens, text, time.time()
        self.refused: list[str] = []
        self._driver, self._over = BlockingDriver(), threading.Event()
        self._shown = [0] * clients
        self._threads = [threading.Thread(target=self._client, args=(each,), daemon=True) for each in range(clients)]

    def __enter__(self) -> Self:
        for each in self._threads:
            each.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for each in self._threads:
            each.join()

    def passes(self, seconds: float) -> None:
        """Time goes on, and all clients keep up with it: one that were left behind would be a clock set back."""
        end = self.now + seconds
        while self.now < end:
            self.now = min(end, self.now + COOL_DOWN / 2)
            self._by_everybody(1)

    def show(self, text: str) -> None:
        """The clients have a new token from now on; returns when all of them have shown it."""
        self.text = text
        self._by_everybody(2)  # the first one may have begun before

    def judged(self, text: str) -> str:
        """What comes of this token now: the code of its refusal, or "good"."""
        return self._judge(text, self.now)

    def _by_everybody(self, times: int) -> None:
        before = list(self._shown)
        until(lambda: all(now >= then + times for now, then in zip(self._shown, before, strict=True)), seconds=30)

    def _client(self, number: int) -> None:
        while not self._over.is_set():
            text = self.text  # before the time, which is set first
            outcome = self._judge(text, self.now)
            if outcome != "good":
                self.refused.append(outcome)
            self._shown[number] += 1
            time.sleep(0.001)  # let the others in, and the server

    def _judge(self, text: str, now: float) -> str:
        try:
            found: Any = self._driver.run(self.tokens.validate(text, now))
        except Refused as refusal:
            return refusal.code
        assert found.subject == "user"
        return "good"
