"""The ways in which a client gets a request onto the proxy's own connection to the server: data to send, no more.

An attempt opens a tunnel (an upgrade to HTTP/2 in clear text, CONNECT) or hides a request in a body that the server
may not consume. Pure: no I/O, no clock.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from mtls_middleware.cli.spoofs import Field

# A proxy writes a body of this size in several parts, so that the server sees the last of them on their own.
PADDING = 200_000

Framing = Literal["length", "chunked", "none"]
Form = Literal["path", "authority", "absolute"]
_FORMS: tuple[Form, ...] = ("authority", "path", "absolute")
_FRAMINGS: tuple[Framing, ...] = ("length", "chunked")


@dataclass(frozen=True, slots=True)
class Upgrade:
    """A GET that asks for HTTP/2 in clear text (RFC 7540 3.2).

    Attributes:
        form: what the operator reads.
        fields: field lines; `{settings}` stands for the value of HTTP2-Settings.
    """

    form: str
    fields: tuple[Field, ...]
    kind: str = "Upgrade: h2c"
    protocol: str = "HTTP/1.1"


@dataclass(frozen=True, slots=True)
class Body:
    """An HTTP/1.1 request whose body holds another request.

    Attributes:
        kind: the outer request, as the operator reads it.
        form: the rest of what the operator reads.
        method: the outer method.
        target: the outer request target: `path`, `authority` or `absolute`.
        fields: the outer request's further fields.
        framing: how its body is delimited.
        padded: whether line ends of `PADDING` octets stand before the request in the body.
        complete: whether the request in the body is complete, or ends within a field line.
    """

    kind: str
    form: str
    method: str
    target: Form
    fields: tuple[Field, ...]
    framing: Framing
    padded: bool
    complete: bool
    protocol: str = "HTTP/1.1"


@dataclass(frozen=True, slots=True)
class Stream:
    """An HTTP/2 CONNECT whose DATA holds a request; the attributes are those of `Body`."""

    kind: str
    form: str
    fields: tuple[Field, ...]
    complete: bool
    framing: Framing = "none"
    protocol: str = "HTTP/2"


_SETTINGS = ("HTTP2-Settings", "{settings}")
_BOTH = ("Connection", "Upgrade, HTTP2-Settings")
_ONE = ("Connection", "Upgrade")


def upgrades() -> Iterator[Upgrade]:
    """HTTP/2 in clear text, asked for in every spelling that a filter may miss."""
    yield Upgrade("as in RFC 7540", (_BOTH, ("Upgrade", "h2c"), _SETTINGS))
    yield Upgrade("not listed in Connection: settings", (_ONE, ("Upgrade", "h2c"), _SETTINGS))
    yield Upgrade("without HTTP2-Settings", (_ONE, ("Upgrade", "h2c")))
    for spelling in ("H2C", "h2C", "h2c, websocket", "websocket, h2c", "h2c,", "\th2c\t"):
        yield Upgrade(f"spelt {spelling!r}", (_BOTH, ("Upgrade", spelling), _SETTINGS))
    yield Upgrade("two lines, h2c first", (_BOTH, ("Upgrade", "h2c"), ("Upgrade", "websocket"), _SETTINGS))
    yield Upgrade("two lines, h2c last", (_BOTH, ("Upgrade", "websocket"), ("Upgrade", "h2c"), _SETTINGS))
    yield Upgrade("names in lower case", (("connection", "upgrade, http2-settings"), ("upgrade", "h2c"), _SETTINGS))
    yield Upgrade("names in upper case", (("CONNECTION", "UPGRADE, HTTP2-SETTINGS"), ("UPGRADE", "h2c"), _SETTINGS))
    yield Upgrade("Connection in two lines", (("Connection", "HTTP2-Settings"), _ONE, ("Upgrade", "h2c"), _SETTINGS))


_KEY = (("Sec-WebSocket-Version", "13"), ("Sec-WebSocket-Key", "AAAAAAAAAAAAAAAAAAAAAA=="))


def bodies() -> Iterator[Body]:
    """Requests in the body of a message that asks for an upgrade, or of CONNECT."""
    for complete in (True, False):
        content = "whole request" if complete else "half a request"
        for framing in _FRAMINGS:
            for token in ("foo", "h2c", "websocket"):
                fields = (_ONE, ("Upgrade", token), *(_KEY if token == "websocket" else ()))  # noqa: S105 (no secret)
                for padded in (False, True):
                    form = f"{token}, {framing}, {content}{', padded' if padded else ''}"
                    yield Body("Upgrade, body", form, "POST", "path", fields, framing, padded, complete)
            for target in _FORMS:
                form = f"{target} form, {framing}, {content}"
                yield Body("CONNECT", form, "CONNECT", target, (), framing, padded=False, complete=complete)
    for target in _FORMS:
        form = f"{target} form, no length, whole request"
        yield Body("CONNECT", form, "CONNECT", target, (), "none", padded=False, complete=True)


def streams(authority: str, path: str) -> Iterator[Stream]:
    """The same over HTTP/2: plain CONNECT (RFC 9113 8.5) and extended CONNECT (RFC 8441)."""
    to, rest = (":authority", authority), ((":scheme", "https"), (":authority", authority), (":path", path))
    method = (":method", "CONNECT")
    for complete in (True, False):
        content = "whole request" if complete else "half a request"
        yield Stream("CONNECT", content, (method, to), complete)
        yield Stream("CONNECT", f"with a length, {content}", (method, to), complete, framing="length")
        yield Stream("CONNECT", f"with a path, {content}", (method, *rest), complete)
        for name in ("websocket", "h2c"):
            fields = (method, (":protocol", name), *rest)
            yield Stream("extended CONNECT", f"{name}, {content}", fields, complete)
