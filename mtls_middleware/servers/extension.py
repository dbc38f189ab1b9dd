"""The ASGI TLS extension 0.2 in its exact types: six keys from an `ssl` object, and an application that is told them.

Must never know: a server. Which object belongs to which connection, and which certificate was loaded, servers/*.py say.
"""

import ssl
from collections.abc import Callable, Iterable
from functools import cache, lru_cache
from os import PathLike
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from mtls_middleware.certificate import ClientCertificate
from mtls_middleware.errors import MalformedCertificate
from mtls_middleware.parser_errors import UNREADABLE
from mtls_middleware.sources.server import presented_chain

Extension = dict[str, object]

# The two bytes that TLS itself writes (RFC 5246 A.1, RFC 8446 4.2.1), by the names of Python's `ssl`.
_VERSIONS = {"TLSv1": 0x0301, "TLSv1.1": 0x0302, "TLSv1.2": 0x0303, "TLSv1.3": 0x0304}


def telling(app: Callable[..., Any], read: Callable[[], Extension]) -> Callable[..., Any]:
    """`app`, with the extension in each scope that has none; where the server brings one itself, that one stays.

    `read` is called at the connection's first request, and no more: what fails before a request would leave the
    connection open and the application told nothing, what fails at one is answered 500.
    """
    once = cache(read)

    def told(scope: Any, *rest: Any) -> Any:
        tell(scope, once)
        return app(scope, *rest)

    return told


def tell(scope: Any, read: Callable[[], Extension]) -> None:
    """Put the extension into this scope, unless the server brought one."""
    extensions = scope.get("extensions") or {}
    if "tls" not in extensions:
        # In the server's own scope, not in a copy: uvicorn's access log reads the client that ProxyHeaders puts there.
        # A dictionary for each request: what an application writes into it, the connection's next does not see.
        scope["extensions"] = {**extensions, "tls": {**read()}}


def negotiated(ssl_object: Any, server_cert: str | None) -> Extension:
    """The extension of a connection of Python's `ssl`; `server_cert`: PEM of what was sent, if known."""
    leaf = ssl_object.getpeercert(True)
    # `ssl` ends each handshake whose certificate does not verify, unless it was told not to verify.
    unverified = bool(leaf) and ssl_object.context.verify_mode is ssl.CERT_NONE
    return extension(
        server_cert=server_cert,
        leaf=leaf,
        presented=presented_chain(ssl_object) if leaf else (),
        error="not verified (CERT_NONE)" if unverified else None,
        version=_VERSIONS.get(ssl_object.version()),
        cipher_suite=cipher_suite(ssl_object.context, ssl_object.cipher()[0]),
    )


def extension(
    *,
    server_cert: str | None,
    leaf: bytes | None,
    presented: Iterable[bytes],
    error: str | None,
    version: int | None,
    cipher_suite: int | None,
) -> Extension:
    """The six keys, each an immutable value. `presented`: DER, leaf first; without the leaf it is not believed."""
    chain = tuple(presented) if leaf else ()
    if leaf and chain[:1] != (leaf,):
        chain = (leaf,)  # a resumed session still has its leaf, and no chain any more
    return {
        "server_cert": server_cert,
        "client_cert_chain": tuple(ssl.DER_cert_to_PEM_cert(der) for der in chain),
        "client_cert_name": _subject(leaf) if leaf else None,
        "client_cert_error": error,
        "tls_version": version,
        "cipher_suite": cipher_suite,
    }


def _subject(leaf: bytes) -> str | None:
    try:
        return ClientCertificate.from_der(leaf).subject
    except MalformedCertificate:  # OpenSSL is less strict; who reads the chain is told so then
        return None


@lru_cache(maxsize=64)  # names of suites times contexts: more than one only where a callback chooses by server name
def cipher_suite(context: ssl.SSLContext, name: str) -> int | None:
    """IANA's number: OpenSSL's identifier of a suite is 0x03000000 plus that."""
    return next((each["id"] & 0xFFFF for each in context.get_ciphers() if each["name"] == name), None)


@lru_cache(maxsize=8)  # as servers do, which load the file once
def first_certificate(path: str | PathLike[str]) -> str | None:
    """The first certificate of a PEM file, never the key beside it; `None` where there is none to be read."""
    try:
        return x509.load_pem_x509_certificates(Path(path).read_bytes())[0].public_bytes(Encoding.PEM).decode("ascii")
    except (OSError, *UNREADABLE):
        return None
