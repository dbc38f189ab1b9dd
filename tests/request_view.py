"""`View`: a request as sources and layers read it, with values that a test chooses."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mtls_middleware.layers.attached import Attached
from mtls_middleware.path_readings import Location
from mtls_middleware.request import Peer, TLSFacts


@dataclass(frozen=True)
class View:
    """A `RequestView` with these values."""

    method: str
    path: str
    query: str
    headers: Callable[[str], Sequence[str]]
    peer: Peer
    tls: TLSFacts
    attached: Attached
    now: float
    body: bytes = b""
    origin: str | None = None

    def has_one_line(self, name: str) -> bool:
        return len(self.headers(name)) == 1

    def field_names(self) -> Sequence[str]:
        return ()

    @property
    def location(self) -> Location:
        return Location(self.path)
