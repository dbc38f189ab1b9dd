"""`CircuitBreaker`: decides which requests may wait for a server that stalls.

This module performs no I/O, reads no clock and has no lock.

An error response or a refused connection is not a stall: it occupies no thread, and the first attempt after a restart
of the server must succeed.
"""

import math
from dataclasses import dataclass

from mtls_middleware.retry import retry_delay

# Number of stalls in a row that open the circuit of one client, and number of clients with a stall in a row that open
# the circuit of all clients. So a client whose tokens make the server slow blocks only itself.
_STALLS, _CLIENTS = 3, 3
# Seconds for which clients without a stall come first, when a probe for all clients is due. So a client whose own
# tokens stall the server does not use up the probes.
_OTHERS_FIRST = 1.0
# Maximum number of clients whose stalls are counted. The client with the oldest stall is forgotten first.
_MAX_CLIENTS = 1_000


@dataclass(slots=True)
class _Circuit:
    """The stalls in a row of one client, or of all clients. The circuit is open from stall number `most`.

    Attributes:
        failures: the number of failed attempts since the circuit opened, for the time of the next probe.
        stalled_at: when the circuit opened, or when the last probe failed.
        probe_at: when the next probe is due.
        probing_until: while a probe is in progress, its latest end.
    """

    most: int
    stalls: int = 0
    failures: int = 0
    stalled_at: float = -math.inf
    probe_at: float = -math.inf
    probing_until: float = -math.inf

    @property
    def is_open(self) -> bool:
        return self.stalls >= self.most

    def wait(self, now: float, responded_at: float) -> float:
        """Return the seconds until a request may be sent, 0 or less if it may be sent now."""
        if not self.is_open:
            return 0.0
        due = self.probe_at if responded_at <= self.stalled_at else now
        return max(due, self.probing_until) - now

    def count(self, stalls: int, began: float, now: float) -> float | None:
        """Count an exchange that began at `began` and stalled.

        Return the delay of the next probe if the circuit is open.
        """
        if self.is_open and began < self.stalled_at:
            return None  # the exchange began before the circuit opened, so it was not a probe
        self.stalls = stalls
        if not self.is_open:
            return None
        self.failures += 1
        delay = retry_delay(self.failures)
        self.stalled_at, self.probe_at, self.probing_until = now, now + delay, -math.inf
        return delay


class CircuitBreaker:
    """Counts the stalls of one server. All times are seconds of one monotonic clock.

    A circuit is closed until there are three stalls in a row. While it is open, one request at a time may go, as a
    probe. The delay before a probe is 0.5 seconds at first, and doubles with each failed probe up to 30 seconds. Any
    response closes the circuit of its client and that of all clients. The circuits of other clients then admit a probe
    at once.
    """

    def __init__(self) -> None:
        self._all = _Circuit(_CLIENTS)
        self._clients: dict[str, _Circuit] = {}
        self._stalled: set[str] = set()  # the clients with a stall since the last response to any client
        self._responded_at = -math.inf

    def admit(self, client: str, now: float, timeout: float) -> tuple[float, bool]:
        """Decide whether a request of `client` may go. `timeout`: the maximum seconds of its exchange.

        Returns the seconds until the next probe, 0 if the request may go, and whether the request is a probe.
        """
        own = self._clients.get(client)
        circuits = [each for each in (self._all, own) if each is not None and each.is_open]
        wait = max((each.wait(now, self._responded_at) for each in circuits), default=0.0)
        if self._all.is_open and own is not None:
            wait = max(wait, self._all.wait(now - _OTHERS_FIRST, self._responded_at))
        if wait > 0:
            return wait, False
        for each in circuits:
            each.probing_until = now + timeout
        return 0.0, bool(circuits)

    def suspects(self, client: str) -> bool:
        """Return whether `client` has a stall since its last response, or the circuit of all clients is open.

        The stalls of other clients alone do not count: their tokens may cause them.
        """
        return client in self._clients or self._all.is_open

    def is_open(self, client: str) -> bool:
        """Return whether only a probe of `client` may go."""
        own = self._clients.get(client)
        return self._all.is_open or (own is not None and own.is_open)

    def stalled(self, client: str, began: float, now: float) -> float | None:
        """Count a stall. Return the seconds until the next probe if the stall opened a circuit or was a probe."""
        own = self._clients.get(client)
        if own is None:
            while len(self._clients) >= _MAX_CLIENTS:
                self._forget(next(iter(self._clients)))
            own = self._clients[client] = _Circuit(_STALLS)
        self._stalled.add(client)
        delays = own.count(own.stalls + 1, began, now), self._all.count(len(self._stalled), began, now)
        return max((each for each in delays if each is not None), default=None)

    def _forget(self, client: str) -> None:
        del self._clients[client]
        self._stalled.discard(client)

    def responded(self, client: str, now: float) -> bool:
        """Count a response. Return whether it closed a circuit."""
        was_open = self.is_open(client)
        self._clients.pop(client, None)
        self._stalled.clear()
        self._all = _Circuit(_CLIENTS)
        self._responded_at = now
        return was_open
