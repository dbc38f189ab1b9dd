"""Reads a recorded request from a JSON file, and creates the WSGI environ or the ASGI scope of that request.

The members of the JSON object, all of them optional:

- `peer`: the address of the other end of the connection, for example `"10.0.0.7"`, or `"unix"` for a unix socket.
- `method`: by default `"GET"`.
- `path`: the path and the query as in the request line, for example `"/invoices?year=2026"`. By default `"/"`.
- `root_path`: the root that the server passes to the application. By default `""`.
- `headers`: an object, or a list of `[name, value]` if a name occurs several times.
- `tls`: `{}` if the server itself terminates TLS and the client presented no certificate. With a certificate:
  `{"certificate": "client.pem", "verified": true}`. The path is relative to the folder of the file.
- `environ`: further keys of a WSGI environ, for example `{"SERVER_SOFTWARE": "Werkzeug/3.1"}`. Without this member, the
  environ is that of a server that passes names and addresses unchanged.
"""

import io
import json
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import unquote_to_bytes

from mtls_middleware.certificate import ClientCertificate
from mtls_middleware.errors import ConfigurationError, MalformedCertificate
from mtls_middleware.json_values import json_document
from mtls_middleware.request import TESTING_KEY

_LARGEST = 1_000_000  # the maximum size of a file, in octets
_PORT = 50_000  # the port of the peer, on which no decision depends
_EXAMPLE = '{"peer": "10.0.0.7", "path": "/invoices", "headers": {"X-SSL-Client-Cert": "-----BEGIN%20CERT..."}}'
_MEMBERS: Mapping[str, type | tuple[type, ...]] = {
    "peer": str, "method": str, "path": str, "root_path": str, "headers": (dict, list), "tls": dict, "environ": dict,
}  # fmt: skip


@dataclass(frozen=True)
class RecordedRequest:
    """A request as its file describes it.

    Attributes:
        peer: the address of the peer, `"unix"`, or `None`.
        headers: the names and values of the header fields, in their order.
        certificates: the certificates that the client presented to the server itself, as PEM, the leaf first. `None`
            if the server does not terminate TLS.
        verified: whether the server has verified these certificates.
        environ: further keys of a WSGI environ; `None` if the file has none.
    """

    peer: str | None = None
    method: str = "GET"
    path: str = "/"
    root_path: str = ""
    headers: tuple[tuple[str, str], ...] = ()
    certificates: tuple[str, ...] | None = None
    verified: bool = True
    environ: Mapping[str, Any] | None = None

    @property
    def _decoded_path(self) -> bytes:
        return unquote_to_bytes(self.path.partition("?")[0])

    def to_environ(self) -> dict[str, Any]:
        """Return the WSGI environ of this request (PEP 3333). The body is empty.

        Fields with an underscore in their name are left out, because the servers that `doctor` recommends drop them.
        """
        environ: dict[str, Any] = {
            "REQUEST_METHOD": self.method,
            "SCRIPT_NAME": self.root_path,
            "PATH_INFO": self._decoded_path.decode("latin-1").removeprefix(self.root_path),
            "QUERY_STRING": self.path.partition("?")[2],
            "wsgi.input": io.BytesIO(),
            "wsgi.url_scheme": "http" if self.certificates is None else "https",
        }
        for name, value in self.headers:
            if "_" not in name:
                key = name.upper().replace("-", "_")
                key = key if key in ("CONTENT_TYPE", "CONTENT_LENGTH") else f"HTTP_{key}"
                environ[key] = f"{environ[key]},{value}" if key in environ else value
        if self.certificates:
            leaf, *chain = self.certificates
            environ |= {"SSL_CLIENT_CERT": leaf, "SSL_CLIENT_VERIFY": "SUCCESS" if self.verified else "GENEROUS"}
            environ |= {f"SSL_CLIENT_CERT_CHAIN_{number}": pem for number, pem in enumerate(chain)}
        if self.peer == "unix":
            environ["gunicorn.socket"] = SimpleNamespace(family=socket.AF_UNIX)
        elif self.peer is not None:
            environ["REMOTE_ADDR"] = self.peer
        return {**environ, **({TESTING_KEY: True} if self.environ is None else self.environ)}

    def to_scope(self) -> dict[str, Any]:
        """Return the ASGI scope of this request."""
        tls = {
            "server_cert": None,
            "client_cert_chain": list(self.certificates or ()),
            "client_cert_name": None,
            "client_cert_error": None if self.verified else "not verified",
            "tls_version": None,
            "cipher_suite": None,
        }
        has_address = self.peer is not None and self.peer != "unix"
        return {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.5"},
            "http_version": "1.1",
            "method": self.method,
            "scheme": "http" if self.certificates is None else "https",
            "path": self._decoded_path.decode("utf-8", "replace"),
            "raw_path": self.path.partition("?")[0].encode("latin-1", "replace"),
            "query_string": self.path.partition("?")[2].encode("latin-1", "replace"),
            "root_path": self.root_path,
            "headers": [(n.lower().encode("latin-1"), v.encode("latin-1", "replace")) for n, v in self.headers],
            "client": (self.peer, _PORT) if has_address else None,
            "server": ("/run/application.sock", None) if self.peer == "unix" else ("192.0.2.1", 443),
            "extensions": {} if self.certificates is None else {"tls": tls},
        }


def read(path: Path) -> RecordedRequest:
    """Return the request that the JSON file describes. Raises `ConfigurationError` if the file has a different form.

    Example: `read(Path("request.json")).to_environ()`
    """
    try:
        if path.is_fifo():  # do not open a FIFO, because this blocks until another process writes to it
            raise ConfigurationError(f"{path} is a named pipe; expected a file")
        with path.open("rb") as file:
            data = file.read(_LARGEST + 1)
        given = json_document(data) if len(data) <= _LARGEST else None
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise ConfigurationError(f"{path}: {error}; expected a JSON object, for example {_EXAMPLE}") from error
    if not isinstance(given, dict):
        raise ConfigurationError(f"{path}: expected a JSON object of at most 1 MB, for example {_EXAMPLE}")
    if any("\ud800" <= character <= "\udfff" for character in json.dumps(given, ensure_ascii=False)):
        raise ConfigurationError(f"{path}: a string contains a surrogate; expected only Unicode characters")
    for name, value in given.items():
        if name not in _MEMBERS:
            raise ConfigurationError(f"{path}: unknown member {name!a}; expected only {', '.join(_MEMBERS)}")
        if value is not None and not isinstance(value, _MEMBERS[name]):
            raise ConfigurationError(
                f"{path}: the value of {name!a} has the wrong type; expected the type in {_EXAMPLE}"
            )
    values = {name: value for name, value in given.items() if value is not None}
    values["headers"] = tuple(_headers(path, values.get("headers", {})))
    tls = values.pop("tls", None)
    if tls is not None:
        values |= _tls(path, tls)
    return RecordedRequest(**values)


def _headers(path: Path, given: dict[str, Any] | list[Any]) -> list[tuple[str, str]]:
    pairs = list(given.items()) if isinstance(given, dict) else given
    for number, pair in enumerate(pairs, 1):
        match pair:
            case (str(name), str(value)) if _is_field(name, value):
                continue
        raise ConfigurationError(  # the message omits the value, which may be a token
            f"{path}: header {number} is not a field; expected a name, and a value without line breaks"
        )
    return [(name, value) for name, value in pairs]


def _is_field(name: str, value: str) -> bool:
    is_name = name.isascii() and name.isprintable() and name != "" and not set(name) & set(' ":')
    return is_name and not set(value) & set("\r\n\0")


def _tls(path: Path, given: dict[str, Any]) -> dict[str, Any]:
    unknown = given.keys() - {"certificate", "verified"}
    file, verified = given.get("certificate"), given.get("verified", True)
    if unknown or not isinstance(file, str | None) or not isinstance(verified, bool):
        raise ConfigurationError(
            f'{path}: invalid tls; expected {{}} or for example {{"certificate": "client.pem", "verified": true}}'
        )
    if file is None:
        return {"certificates": ()}
    try:
        found = ClientCertificate.from_pem((path.parent / file).read_bytes())
    except (OSError, MalformedCertificate) as error:
        raise ConfigurationError(f"{path}: the certificate {file!a} cannot be read: {error}") from error
    pems = tuple(ClientCertificate.from_der(der).pem for der in (found.der, *found.chain))
    return {"certificates": pems, "verified": verified}
