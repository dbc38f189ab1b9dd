"""What a payload is: a name, a group, and a function that writes an attack's octets or HTTP/2 frames."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from tests.smuggling.attack import Attack, Kind

Group = Literal["upgrade", "connect", "form", "downgrade", "feature"]
GROUPS: tuple[Group, ...] = ("upgrade", "connect", "form", "downgrade", "feature")

REQUESTS: tuple[Kind, ...] = ("forge", "poison", "capture")
FORGE: tuple[Kind, ...] = ("forge",)


@dataclass(frozen=True)
class Headers:
    """A HEADERS frame on stream 1."""

    fields: Sequence[tuple[bytes, bytes]]
    end: bool = False


@dataclass(frozen=True)
class Data:
    """DATA frames on stream 1."""

    octets: bytes
    end: bool = True


@dataclass(frozen=True)
class Reset:
    """The client cancels stream 1 (RST_STREAM, RFC 9113 6.4)."""


Frame = Headers | Data | Reset


@dataclass(frozen=True)
class Payload:
    """`segments` for HTTP/1.1, written one after the other with a pause; or `frames` for HTTP/2."""

    name: str
    group: Group
    segments: Callable[[Attack], Sequence[bytes]] | None = None
    frames: Callable[[Attack], Sequence[Frame]] | None = None
    kinds: tuple[Kind, ...] = REQUESTS
    core: bool = False  # part of every CI run
