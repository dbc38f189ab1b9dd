"""Lists the attempts to send a client's request over the proxy's own connection to the server.

An attempt opens a tunnel (an upgrade to HTTP/2 in clear text, or CONNECT), or hides a request in a body that the server
may not consume. This module performs no I/O and reads no clock.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from mtls_middleware.cli.spoofs import Field

# The number of octets before the hidden request. A proxy sends a body of this size in several parts, so the server
# reads the last part, which contains the hidden request, separately.
PADDING = 200_000

Framing = Literal["length", "chunked", "none"]
Form = Literal["path", "authority", "absolute"]
_FORMS: tuple[Form, ...] = ("authority", "path", "absolute")
_FRAMINGS: tuple[Framing, ...] = ("length", "chunked")


@dataclass(frozen=True, slots=True)
class Upgrade:
    """A GET request for an upgrade to HTTP/2 in clear text (RFC 7540 3.2).

    Attributes:
        form: the variant, for the report.
        fields: the header fields; `{settings}` stands for the value of HTTP2-Settings.
        kind: the kind of attempt, for the report.
        protocol: the protocol, for the report.
    """

    form: str
    fields: tuple[Field, ...]
    kind: str = "Upgrade: h2c"
    protocol: str = "HTTP/1.1"


@dataclass(frozen=True, slots=True)
class Body:
    """An HTTP/1.1 request whose body holds another request.

    Attributes:
        kind: the kind of the outer request, for the report.
        form: the variant, for the report.
        method: the method of the outer request.
        target: the form of the outer request's target: `path`, `authority` or `absolute`.
        fields: the additional header fields of the outer request.
        framing: how the body of the outer request is delimited: `length`, `chunked` or `none`.
        padded: whether `PADDING` octets of line ends precede the hidden request.
        complete: whether the hidden request is complete. If `False`, the hidden request ends within a field name.
        protocol: the protocol, for the report.
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
    """An HTTP/2 CONNECT whose DATA frames contain another request.

    `fields` contains all fields of the CONNECT, with the pseudo-header fields. For the other attributes, see `Body`.
    """

    kind: str
    form: str
    fields: tuple[Field, ...]
    complete: bool
    framing: Framing = "none"
    protocol: str = "HTTP/2"


_SETTINGS = ("HTTP2-Settings", "{settings}")
_CONNECTION_BOTH = ("Connection", "Upgrade, HTTP2-Settings")
_CONNECTION_ONE = ("Connection", "Upgrade")


def upgrades() -> Iterator[Upgrade]:
    """Yield the requests for an upgrade to HTTP/2 in clear text, in every spelling that a filter may miss."""
    yield Upgrade("as in RFC 7540", (_CONNECTION_BOTH, ("Upgrade", "h2c"), _SETTINGS))
    yield Upgrade("HTTP2-Settings not listed in Connection", (_CONNECTION_ONE, ("Upgrade", "h2c"), _SETTINGS))
    yield Upgrade("without HTTP2-Settings", (_CONNECTION_ONE, ("Upgrade", "h2c")))
    for spelling in ("H2C", "h2C", "h2c, websocket", "websocket, h2c", "h2c,", "\th2c\t"):
        yield Upgrade(f"spelt {spelling!r}", (_CONNECTION_BOTH, ("Upgrade", spelling), _SETTINGS))
    yield Upgrade("two lines, h2c first", (_CONNECTION_BOTH, ("Upgrade", "h2c"), ("Upgrade", "websocket"), _SETTINGS))
    yield Upgrade("two lines, h2c last", (_CONNECTION_BOTH, ("Upgrade", "websocket"), ("Upgrade", "h2c"), _SETTINGS))
    yield Upgrade("names in lower case", (("connection", "upgrade, http2-settings"), ("upgrade", "h2c"), _SETTINGS))
    yield Upgrade("names in upper case", (("CONNECTION", "UPGRADE, HTTP2-SETTINGS"), ("UPGRADE", "h2c"), _SETTINGS))
    yield Upgrade(
        "Connection in two lines",
        (("Connection", "HTTP2-Settings"), _CONNECTION_ONE, ("Upgrade", "h2c"), _SETTINGS),
    )


_WEBSOCKET_FIELDS = (("Sec-WebSocket-Version", "13"), ("Sec-WebSocket-Key", "AAAAAAAAAAAAAAAAAAAAAA=="))


def bodies() -> Iterator[Body]:
    """Yield the attempts that hide a request in the body of a request for an upgrade, or in the body of CONNECT."""
    for complete in (True, False):
        content = "whole request" if complete else "half a request"
        for framing in _FRAMINGS:
            for token in ("foo", "h2c", "websocket"):
                fields = (_CONNECTION_ONE, ("Upgrade", token), *(_WEBSOCKET_FIELDS if token == "websocket" else ()))  # noqa: S105 (no secret)
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
    """Yield the attempts that hide a request in an HTTP/2 CONNECT (RFC 9113 8.5) or extended CONNECT (RFC 8441)."""
    target = (":authority", authority)
    target_with_path = ((":scheme", "https"), target, (":path", path))
    method = (":method", "CONNECT")
    for complete in (True, False):
        content = "whole request" if complete else "half a request"
        yield Stream("CONNECT", content, (method, target), complete)
        yield Stream("CONNECT", f"with Content-Length, {content}", (method, target), complete, framing="length")
        yield Stream("CONNECT", f"with :path, {content}", (method, *target_with_path), complete)
        for name in ("websocket", "h2c"):
            fields = (method, (":protocol", name), *target_with_path)
            yield Stream("extended CONNECT", f"{name}, {content}", fields, complete)
