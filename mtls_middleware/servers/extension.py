"""Builds the ASGI TLS extension 0.2, a dictionary with six keys, and adds the extension to the scopes of requests.

This module does not depend on a server. The other modules of this folder supply the connection and its certificate.
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

# The two-byte version numbers of the TLS protocol (RFC 5246 A.1, RFC 8446 4.2.1), by the names in Python's `ssl`.
_VERSIONS = {"TLSv1": 0x0301, "TLSv1.1": 0x0302, "TLSv1.2": 0x0303, "TLSv1.3": 0x0304}


def with_tls_extension(app: Callable[..., Any], read: Callable[[], Extension]) -> Callable[..., Any]:
    """Wrap `app` so that each scope has the TLS extension. An extension that the server itself added is not replaced.

    `read` runs at the first request of the connection, and its result is cached for later requests. An exception in a
    request becomes a response with status 500. If `read` ran before the first request, an exception would leave the
    connection open, and no request would fail.
    """
    read_once = cache(read)

    def wrapped(scope: Any, *rest: Any) -> Any:
        add_tls_extension(scope, read_once)
        return app(scope, *rest)

    return wrapped


def add_tls_extension(scope: Any, read: Callable[[], Extension]) -> None:
    """Add the TLS extension to this scope, unless the server has added a TLS extension."""
    extensions = scope.get("extensions") or {}
    if "tls" not in extensions:
        # Change the server's own scope, not a copy: uvicorn's access log reads `client` from the same scope in which
        # ProxyHeadersMiddleware sets it. Give each request its own dictionary, so that changes by the application do
        # not reach the next request of the connection.
        scope["extensions"] = {**extensions, "tls": {**read()}}


def extension_from_ssl(ssl_object: Any, server_cert: str | None) -> Extension:
    """Return the TLS extension for a connection of Python's `ssl`.

    `server_cert`: the server's certificate as PEM; `None` if it is not known.
    """
    leaf = ssl_object.getpeercert(True)
    # Unless verification is off (CERT_NONE), `ssl` aborts the handshake if the client's certificate does not verify.
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
    """Return the six keys of the ASGI TLS extension, each with an immutable value.

    `presented`: the chain as DER, leaf first. A chain that does not begin with `leaf` is ignored.
    """
    chain = tuple(presented) if leaf else ()
    if leaf and chain[:1] != (leaf,):
        chain = (leaf,)  # in a resumed session, `ssl` knows the leaf, but not the chain
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
    # OpenSSL accepted the certificate, because it is less strict. The source that reads the chain rejects it.
    except MalformedCertificate:
        return None


# The cache has one entry for each suite and context. A server has several contexts only if it chooses a context by SNI.
@lru_cache(maxsize=64)
def cipher_suite(context: ssl.SSLContext, name: str) -> int | None:
    """Return the IANA number of a cipher suite; `None` if the context does not have the suite.

    OpenSSL's identifier of a suite is 0x03000000 plus this number.
    """
    return next((each["id"] & 0xFFFF for each in context.get_ciphers() if each["name"] == name), None)


def first_certificate(path: str | PathLike[str]) -> str | None:
    """Return the first certificate of a PEM file; `None` if the file has no certificate or cannot be read.

    A private key in the same file is never returned. A certificate is cached, because a server also loads the file only
    once. After a failure, the file is read again.
    """
    try:
        return _first_certificate(Path(path))
    except (OSError, *UNREADABLE):
        return None


@lru_cache(maxsize=8)
def _first_certificate(path: Path) -> str:
    return x509.load_pem_x509_certificates(path.read_bytes())[0].public_bytes(Encoding.PEM).decode("ascii")
