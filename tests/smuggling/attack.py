"""One attack: who sends it, through which configuration, and the request that it tries to smuggle."""

from dataclasses import dataclass
from functools import cache
from typing import Literal

import h2.config
import h2.connection

from mtls_middleware.testing import IssuedCertificate
from tests.proxies import matrix

Kind = Literal["forge", "forge-h2", "poison", "capture"]
KINDS: tuple[Kind, ...] = ("forge", "forge-h2", "poison", "capture")

# The certificates, by their names in `tests.proxies.matrix`.
ATTACKER, VICTIM, INNOCENT = "RSA", "victim", "SPIFFE"

# Longer than what a proxy writes before an innocent client's body, and shorter than that with the body.
CAPTURED, INNOCENT_BODY = 1_900, 1_600


def certificate(kind: str) -> IssuedCertificate:
    """The certificate of this kind. Raises `AssertionError` if this kind of client has no certificate."""
    found = matrix.certificate(kind)
    assert found is not None, kind
    return found


@cache
def forged_fields(proxy: str) -> tuple[tuple[bytes, bytes], ...]:
    """The fields that say "this is the victim" in every name that a generated configuration has ever used."""
    victim = certificate(VICTIM)
    percent, item = victim.as_nginx()["X-SSL-Client-Cert"], victim.as_client_cert()["Client-Cert"]
    base64 = item.strip(":")
    own = percent if proxy in ("nginx", "apache") else base64
    fields = {
        "MtlsClientCert": own,
        "MtlsClientVerify": "SUCCESS",
        "X-SSL-Client-Cert": own,
        "X-SSL-Client-Verify": "SUCCESS",
        "Client-Cert": item,
        "X-Forwarded-Client-Cert": f'Cert="{percent}"',
        "X-Forwarded-Tls-Client-Cert": base64,
    }
    return tuple((name.encode(), value.encode()) for name, value in fields.items())


def lines(fields: tuple[tuple[bytes, bytes], ...]) -> bytes:
    """The fields as HTTP/1.1 writes them, without the last line end."""
    return b"\r\n".join(name + b": " + value for name, value in fields)


@dataclass(frozen=True)
class Attack:
    """What one attack sends: its name, its kind, and the first path segment of the configuration under attack."""

    proxy: str
    key: str
    payload: str
    kind: Kind
    number: int = 0

    @property
    def name(self) -> str:
        """A path segment that says which attack a recorded request belongs to."""
        return f"{self.payload},{self.kind},{self.number}"

    def path(self, part: str) -> bytes:
        return f"/{self.key}/attacker/{self.name}/{part}".encode()

    @property
    def forged(self) -> tuple[tuple[bytes, bytes], ...]:
        return forged_fields(self.proxy)

    @property
    def inner(self) -> bytes:
        """The octets that must never begin a request on the connection between proxy and server."""
        match self.kind:
            case "forge":
                return b"GET %s HTTP/1.1\r\nHost: localhost\r\n%s\r\n\r\n" % (self.path("inner"), lines(self.forged))
            case "forge-h2":
                return self._http2()
            case "poison":
                # No Host: the next client's request brings its own, and some servers reject two.
                return b"POST %s HTTP/1.1\r\nX-Open: " % self.path("poisoned")
            case "capture":
                head = b"POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n"
                return head % (self.path("captured"), CAPTURED)

    def _http2(self) -> bytes:
        """The beginning of an HTTP/2 connection, with the forged request on stream 3: 1 belongs to an upgrade."""
        state = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True, header_encoding=None))
        state.initiate_connection()
        begin = [
            (b":method", b"GET"),
            (b":scheme", b"http"),
            (b":authority", b"localhost"),
            (b":path", self.path("inner")),
        ]
        state.send_headers(3, [*begin, *((name.lower(), value) for name, value in self.forged)], end_stream=True)
        return state.data_to_send()

    def request(
        self,
        *fields: bytes,
        method: bytes = b"POST",
        version: bytes = b"1.1",
        part: str = "outer",
        target: bytes | None = None,
        host: bytes = b"localhost",
        body: bytes = b"",
    ) -> bytes:
        """A request of the attacker, with these field lines and this body as they are."""
        start = b"%s %s HTTP/%s" % (method, self.path(part) if target is None else target, version)
        return b"\r\n".join([start, b"Host: " + host, *fields, b"", b""]) + body


def chunked(body: bytes) -> bytes:
    """The body as one chunk and the last chunk."""
    return b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)


def framed(framing: str, body: bytes) -> tuple[list[bytes], bytes]:
    """The field lines and the octets of a body: `length`, `chunked`, or `none`, which does not declare the body."""
    if framing == "length":
        return [b"Content-Length: %d" % len(body)], body
    if framing == "chunked":
        return [b"Transfer-Encoding: chunked"], chunked(body)
    return [], body
