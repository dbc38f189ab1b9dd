"""Real TLS servers on loopback, for tests of the client: an authorization server and an API, which record requests."""

import base64
import hashlib
import json
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

import jwt

from mtls_middleware.testing import CertificateAuthority
from tests.loopback import LoopbackHandler, LoopbackServer

SECRET = "a secret of the tests, which has 32 bytes"


@dataclass(frozen=True)
class Received:
    """One request: its path, the thumbprint of the connection's certificate, its fields and its form.

    `connection`: the port of the client, which is another one for each open connection.
    """

    path: str
    thumbprint: str | None
    headers: dict[str, str]
    form: dict[str, str] = field(default_factory=dict)
    connection: int = 0

    @property
    def token(self) -> str | None:
        return self.headers.get("Authorization", "").removeprefix("Bearer ") or None

    @property
    def token_thumbprint(self) -> Any:
        """The thumbprint of the certificate to which the request's token is bound."""
        assert self.token is not None
        return jwt.decode(self.token, options={"verify_signature": False})["cnf"]["x5t#S256"]


class Server(LoopbackServer):
    """Records requests, and responds with `respond(received)`: a status, fields, and JSON or bytes.

    A request without a certificate is accepted.
    """

    def __init__(self, authority: CertificateAuthority, *hosts: str) -> None:
        context = authority.server_context(authority.server(*hosts), client_certificates="optional")
        super().__init__(_Handler, tls=context)
        self.received: list[Received] = []
        self.lock = threading.Lock()
        self.respond: Callable[[Received], tuple[int, dict[str, str], Any]] = self.accept

    def accept(self, received: Received) -> tuple[int, dict[str, str], Any]:
        return 200, {}, {"path": received.path}


class API(Server):
    """Rejects a request unless its token is bound to the certificate of its connection. `revoked`: rejected tokens."""

    def __init__(self, authority: CertificateAuthority) -> None:
        super().__init__(authority)
        self.revoked: set[str] = set()

    def accept(self, received: Received) -> tuple[int, dict[str, str], Any]:
        bound = received.token is not None and received.token_thumbprint == received.thumbprint
        if not bound or received.token in self.revoked:
            return 401, {"WWW-Authenticate": 'Bearer error="invalid_token"'}, {"error": "invalid_token"}
        return super().accept(received)


class AuthorizationServer(Server):
    """Issues tokens that are bound to the certificate of the connection.

    `document` and `response` replace members of the metadata and of the token response; `None` removes a member.
    `issued`: the tokens.
    """

    def __init__(self, authority: CertificateAuthority) -> None:
        super().__init__(authority)
        self.document: dict[str, Any] = {}
        self.response: dict[str, Any] = {}
        self.claims: dict[str, Any] = {}
        self.issued: list[str] = []
        self.issuer = self.host

    @property
    def token_requests(self) -> list[Received]:
        return [each for each in self.received if each.path == "/token"]

    def accept(self, received: Received) -> tuple[int, dict[str, str], Any]:
        if received.path != "/token":
            members = {
                "issuer": self.issuer,
                "token_endpoint": f"{self.host}/token",
                "token_endpoint_auth_methods_supported": ["tls_client_auth"],
                "tls_client_certificate_bound_access_tokens": True,
            }
            return 200, {}, _without_none({**members, **self.document})
        claims = {"jti": str(len(self.received)), "cnf": {"x5t#S256": received.thumbprint}, **self.claims}
        token = jwt.encode(_without_none(claims), SECRET)
        self.issued.append(token)
        members = {"access_token": token, "token_type": "Bearer", "expires_in": 300}
        return 200, {}, _without_none({**members, **self.response})


def _without_none(members: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in members.items() if value is not None}


class _Handler(LoopbackHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1

    def do_GET(self) -> None:
        self._handle()

    def do_POST(self) -> None:
        self._handle()

    def _handle(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        assert isinstance(self.connection, ssl.SSLSocket)
        der = self.connection.getpeercert(binary_form=True)
        thumbprint = base64.urlsafe_b64encode(hashlib.sha256(der).digest()).rstrip(b"=").decode() if der else None
        is_form = self.headers.get("Content-Type") == "application/x-www-form-urlencoded"
        form = dict(parse_qsl(body.decode())) if is_form else {}
        received = Received(self.path, thumbprint, dict(self.headers), form, self.client_address[1])
        with self.owner.lock:
            self.owner.received.append(received)
            status, headers, content = self.owner.respond(received)
        self.owner.wait(self.owner.stall)
        if self.owner.behaviour is not None:
            self.owner.behaviour(self)
            return
        content = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", **headers}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)
