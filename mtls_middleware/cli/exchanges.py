"""One request over a connection of its own, written octet by octet, and the status that comes back.

Must never know: why. No HTTP client would send what this sends.
"""

import socket
import ssl
from urllib.parse import SplitResult

from mtls_middleware.cli.spoofs import Spoof

_TIMEOUT = 10.0
_LONGEST_HEAD = 65_536


class NotSpoken(Exception):  # noqa: N818 (an outcome)
    """The server does not speak the protocol."""


def http1(url: SplitResult, context: ssl.SSLContext, spoof: Spoof) -> int:
    """The status of an HTTP/1.1 request. Raises `OSError`, and `ValueError` for an answer that is none."""
    fields = "".join(f"{name}{spoof.joiner}{value}\r\n" for name, value in spoof.fields)
    start = f"{{}} {_target(url)} HTTP/1.1\r\nHost: {url.netloc.rpartition('@')[2]}\r\n"
    own_connection = any(name.lower() == "connection" for name, _ in spoof.fields)
    close = "" if own_connection else "Connection: close\r\n"
    if spoof.trailers:
        names = ", ".join(name for name, _ in spoof.fields)
        head = f"{start.format('POST')}{close}Transfer-Encoding: chunked\r\nTrailer: {names}\r\n\r\n"
        request = f"{head}1\r\nx\r\n0\r\n{fields}\r\n"
    else:
        request = f"{start.format('GET')}{close}{fields}\r\n"
    with _connected(url, context, "http/1.1") as connection:
        connection.sendall(request.encode("latin-1"))
        answer = b""
        while b"\r\n" not in answer and len(answer) < _LONGEST_HEAD and (more := connection.recv(4096)):
            answer += more
    words = answer.split(b" ", 2)
    if len(words) < 2 or not words[0].startswith(b"HTTP/1."):
        raise ConnectionError("closed without an answer")
    return int(words[1][:3])


def http2(url: SplitResult, context: ssl.SSLContext, spoof: Spoof) -> int:
    """The status of an HTTP/2 request. Raises `OSError` and `NotSpoken`. Needs the extra `probe`."""
    import h2.config
    import h2.connection
    import h2.events
    import h2.exceptions

    config = h2.config.H2Configuration(
        client_side=True,
        validate_outbound_headers=False,
        normalize_outbound_headers=False,
        validate_inbound_headers=False,
    )
    protocol = h2.connection.H2Connection(config)
    pseudo = [
        (":method", "POST" if spoof.trailers else "GET"),
        (":scheme", "https"),
        (":authority", url.netloc.rpartition("@")[2]),
        (":path", _target(url)),
    ]
    with _connected(url, context, "h2") as connection:
        if connection.selected_alpn_protocol() != "h2":
            raise NotSpoken
        protocol.initiate_connection()
        if spoof.trailers:
            protocol.send_headers(1, pseudo)
            protocol.send_data(1, b"x")
            protocol.send_headers(1, list(spoof.fields), end_stream=True)
        else:
            protocol.send_headers(1, [*pseudo, *spoof.fields], end_stream=True)
        connection.sendall(protocol.data_to_send())
        while more := connection.recv(65_536):
            try:
                events = protocol.receive_data(more)
            except h2.exceptions.ProtocolError as error:
                raise ConnectionError("not HTTP/2") from error
            for event in events:
                if isinstance(event, h2.events.ResponseReceived):
                    return int(dict(event.headers)[b":status"])
                if isinstance(event, (h2.events.StreamReset, h2.events.ConnectionTerminated)):
                    raise ConnectionResetError("the stream was reset")
            connection.sendall(protocol.data_to_send())
    raise ConnectionError("closed without an answer")


def _connected(url: SplitResult, context: ssl.SSLContext, alpn: str) -> ssl.SSLSocket:
    context.set_alpn_protocols([alpn])
    plain = socket.create_connection((url.hostname or "", url.port or 443), timeout=_TIMEOUT)
    try:
        # The handshake's last flight and the request are two small writes: Nagle would hold the second for 40 ms.
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return context.wrap_socket(plain, server_hostname=url.hostname)
    except BaseException:
        plain.close()
        raise


def _target(url: SplitResult) -> str:
    return (url.path or "/") + (f"?{url.query}" if url.query else "")
