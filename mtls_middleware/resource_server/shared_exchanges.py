"""`SharedExchanges`: callers that need the introspection of the same token at the same time share one exchange."""

import threading
from dataclasses import dataclass

from mtls_middleware.effects.exchange import Fetch
from mtls_middleware.forks import reset_after_fork


@dataclass(slots=True, eq=False)
class SharedExchange:
    """One exchange in progress.

    `now`: the time of the caller that created it. The age of the response is counted from this time.

    `callers`: the number of callers that wait for it. `is_claimed`: whether a caller caches its response.
    """

    fetch: Fetch
    now: float
    callers: int = 0
    is_claimed: bool = False


class SharedExchanges:
    """The exchanges in progress, by the key of a token. All methods are thread-safe."""

    def __init__(self) -> None:
        self.after_fork()
        reset_after_fork(self)

    def after_fork(self) -> None:
        """Forget the exchanges in progress, which end only in the parent process."""
        self._lock = threading.Lock()  # the lock is not held during I/O
        self._exchanges: dict[str, SharedExchange] = {}

    def join(self, key: str) -> SharedExchange | None:
        """Return the exchange in progress for `key`, or `None`. The caller must call `leave` later."""
        with self._lock:
            shared = self._exchanges.get(key)
            if shared is not None:
                shared.callers += 1
            return shared

    def begin(self, key: str, fetch: Fetch, now: float) -> SharedExchange:
        """Share `fetch` under `key`, and return its exchange.

        If another caller was faster, return the exchange of that caller.

        The caller must call `leave` later.
        """
        with self._lock:
            shared = self._exchanges.setdefault(key, SharedExchange(fetch, now))
            shared.callers += 1
            return shared

    def claim(self, shared: SharedExchange) -> bool:
        """Return `True` for the first caller, which must cache the response, and `False` for all other callers."""
        with self._lock:
            is_first, shared.is_claimed = not shared.is_claimed, True
            return is_first

    def leave(self, key: str, shared: SharedExchange, *, ends: bool) -> None:
        """Count the end of one caller's wait.

        `ends`: whether further callers need a new exchange. If `ends` is false, the exchange is shared until its last
        caller leaves, so a caller that is cancelled does not end the exchange for the other callers.
        """
        with self._lock:
            shared.callers -= 1
            if (ends or shared.callers == 0) and self._exchanges.get(key) is shared:
                del self._exchanges[key]
