"""`CertificateFiles`: loads the certificate and key that this process presents, and reloads renewed files."""

import contextlib
import os
import ssl
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from os import PathLike
from pathlib import Path
from typing import BinaryIO

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from mtls_middleware.certificate import ClientCertificate
from mtls_middleware.effects.exchange import MAX_WAITING, Connections, default_context
from mtls_middleware.errors import ConfigurationError, MalformedCertificate
from mtls_middleware.forks import reset_after_fork
from mtls_middleware.validation.files import Contents, FileCache

Roots = str | PathLike[str] | None

# Maximum number of certificates for which connections are kept. A flow may still use the certificate that was current
# when the flow began.
_MAX_CONNECTIONS = 2


@dataclass(frozen=True, slots=True, repr=False)
class CertificateKeyPair:
    """A certificate and its private key. Two pairs are equal if the contents of their files are equal.

    Attributes:
        certificate: the leaf certificate, with the chain that the file contains.

    Example: `CertificateFiles("c.pem", "c.key").current().thumbprint`
    """

    certificate: ClientCertificate
    _certificate_pem: bytes
    _key_pem: bytes
    _password: bytes | None

    @property
    def thumbprint(self) -> str:
        """The `x5t#S256` value of the certificate (RFC 8705 3.1)."""
        return self.certificate.thumbprint

    @property
    def not_valid_before(self) -> datetime:
        """The beginning of the certificate's validity period, in UTC."""
        return self.certificate.not_valid_before

    @property
    def not_valid_after(self) -> datetime:
        """The end of the certificate's validity period, in UTC."""
        return self.certificate.not_valid_after

    def ssl_context(self, roots: Roots = None) -> ssl.SSLContext:
        """Return a new TLS context for clients: it presents this certificate, and verifies the server and its name.

        Arguments:
            roots: a PEM file with the CAs that the server's certificate may come from. Default: the system's CAs.

        Raises `ConfigurationError` if `roots` cannot be used.

        Example: `pair.ssl_context("internal-ca.pem")`
        """
        context = _new_context(roots)
        try:
            with _file(self._certificate_pem) as certificate, _file(self._key_pem) as key:
                context.load_cert_chain(certificate, key, self._password or _no_password)
        except ssl.SSLError as error:  # OpenSSL may reject the key, for example because of its security level
            raise ConfigurationError(f"OpenSSL rejects the certificate or its key: {error.reason}") from None
        return context

    def __repr__(self) -> str:
        return f"<CertificateKeyPair {self.thumbprint}>"


class CertificateFiles:
    """A certificate and its private key in PEM files, which are read again after they are renewed.

    The files are checked at most once a second. A new pair is used only if the key belongs to the certificate.
    Otherwise the last good pair stays in use, and the logger `mtls_middleware.validation` writes a line. So you may
    write the two files one after the other.

    Arguments:
        certificate: the leaf certificate, followed by its chain.
        key: the private key. It may be the same file.
        password: the password of an encrypted key.

    Raises `ConfigurationError` if the files cannot be read, or if the key does not belong to the first certificate.

    Example: `CertificateFiles("/run/spiffe/svid.pem", "/run/spiffe/svid.key")`
    """

    def __init__(
        self, certificate: str | PathLike[str], key: str | PathLike[str], *, password: str | bytes | None = None
    ) -> None:
        self._paths: tuple[Path, Path] = (_path("certificate", certificate), _path("key", key))
        if not isinstance(password, str | bytes | None):
            raise ConfigurationError("password is not a string; expected the password of the key, or None")
        self._password: bytes | None = password.encode() if isinstance(password, str) else password
        self._files: FileCache[bytes, CertificateKeyPair] = FileCache(
            self._paths, (), _read, self._pair, gone="the last certificate and key stay in use"
        )

    def current(self, now: float | None = None) -> CertificateKeyPair:
        """Return the current pair. Checks for renewed files if the last check was at least a second ago.

        `now`: seconds since the epoch. Default: the current time. Any thread may call this method.

        Example: `files.current().not_valid_after`
        """
        return self._files.current(time.time() if now is None else now)

    def _pair(
        self,
        old: CertificateKeyPair | None,
        contents: Contents[bytes],
        now: float,  # noqa: ARG002 (the signature of `combine` of `FileCache`)
    ) -> CertificateKeyPair:
        """Return the pair in the files. If this method raises `ConfigurationError`, `FileCache` keeps the old pair."""
        certificate_pem, key_pem = (_content(path, contents) for path in self._paths)
        path, key_path = self._paths
        try:
            certificate = ClientCertificate.from_pem(certificate_pem)
        except MalformedCertificate as error:
            raise ConfigurationError(f"{path}: {error.evidence[0]}") from None
        if certificate_pem.count(b"-----BEGIN CERTIFICATE-----") != 1 + len(certificate.chain):
            raise ConfigurationError(f"{path}: a certificate is not complete")
        try:
            key = load_pem_private_key(key_pem, self._password)
        except (TypeError, ValueError, UnsupportedAlgorithm):
            # The new message does not quote the message of the exception, which may contain details of the key.
            hint = "" if self._password is None else "; the key is not encrypted, so omit password="
            if b"ENCRYPTED" in key_pem:
                hint = "; the key is encrypted, so give its password="
            raise ConfigurationError(f"{key_path}: expected one private key in PEM format{hint}") from None
        form = Encoding.DER, PublicFormat.SubjectPublicKeyInfo
        if key.public_key().public_bytes(*form) != certificate.x509.public_key().public_bytes(*form):
            raise ConfigurationError(f"{key_path}: the key does not belong to the first certificate in {path}")
        pair = CertificateKeyPair(certificate, certificate_pem, key_pem, self._password)
        return old if old == pair and old is not None else pair

    def __repr__(self) -> str:
        return f"CertificateFiles({str(self._paths[0])!r}, {str(self._paths[1])!r})"


class CertificateConnections:
    """The persistent connections to one server. Each certificate that `certificate` loads has its own connections.

    Attributes:
        roots, proxy: the arguments of the constructor.

    Example: `CertificateConnections(files, "as-ca.pem").of(files.current())`
    """

    def __init__(
        self, certificate: CertificateFiles, roots: Roots, max_waiting: int = MAX_WAITING, proxy: str | None = None
    ) -> None:
        self.roots: Roots = roots
        self.proxy: str | None = proxy
        self._certificate, self._max_waiting = certificate, max_waiting
        self._lock = threading.Lock()  # protects the following attribute
        # The last entry is that of the newest certificate.
        self._by_pair: list[tuple[CertificateKeyPair, Connections]] = []
        reset_after_fork(self)

    def after_fork(self) -> None:
        """Replace the lock, which another thread of the parent process may hold."""
        self._lock = threading.Lock()

    def current(self, now: float) -> Connections:
        """Return the connections that present the current certificate. `now`: seconds since the epoch."""
        return self.of(self._certificate.current(now))

    def of(self, pair: CertificateKeyPair) -> Connections:
        """Return the connections that present the certificate of `pair`. Raises `ConfigurationError`."""
        with self._lock:
            for known, connections in self._by_pair:
                if known == pair:
                    return connections
            new = Connections(pair.ssl_context(self.roots), self._max_waiting, self.proxy)
            self._by_pair = [*self._by_pair[1 - _MAX_CONNECTIONS :], (pair, new)]
            return new


def check_certificate_files(given: object) -> CertificateFiles:
    """Check that the argument `certificate` is a `CertificateFiles`, and return it. Raises `ConfigurationError`.

    Example: `check_certificate_files(certificate).current()`
    """
    if not isinstance(given, CertificateFiles):
        raise ConfigurationError(
            f"certificate={given!r}: expected an object, for example CertificateFiles('c.pem', 'c.key')"
        )
    return given


def trust_context(roots: Roots) -> ssl.SSLContext:
    """Return a TLS context that verifies servers and presents no certificate. Raises `ConfigurationError`.

    `roots`: a PEM file with CAs. Default: the system's CAs, with one context for all objects.
    """
    return default_context() if roots is None else _new_context(roots)


def _new_context(roots: Roots) -> ssl.SSLContext:
    if roots is not None and not (isinstance(roots, str | PathLike) and str(roots)):
        raise ConfigurationError(f"roots={roots!r}: expected a PEM file with CAs, for example 'ca.pem', or None")
    try:
        return ssl.create_default_context(cafile=roots)
    except OSError as error:  # ssl.SSLError is an OSError
        reason = "not a PEM file with certificates" if isinstance(error, ssl.SSLError) else type(error).__name__
        raise ConfigurationError(f"roots={str(roots)!r}: cannot be loaded ({reason})") from None


def _path(name: str, given: object) -> Path:
    if not isinstance(given, str | PathLike) or not str(given):
        raise ConfigurationError(f"{name}={given!r}: expected the path of a PEM file, for example 'client.pem'")
    return Path(given)


def _read(file: BinaryIO) -> bytes:
    return file.read()


def _content(path: Path, contents: Contents[bytes]) -> bytes:
    if path not in contents[path]:
        raise ConfigurationError(f"{path} is not a file; expected a PEM file")
    return contents[path][path]


def _no_password() -> bytes:
    """Return an empty password. OpenSSL calls this function instead of asking for the password on the terminal."""
    return b""


@contextlib.contextmanager
def _file(content: bytes) -> Iterator[str]:
    """Yield the path of a file with `content`. `ssl` loads only files, and the configured files may have changed."""
    if hasattr(os, "memfd_create") and os.path.isdir("/proc/self/fd"):
        with os.fdopen(os.memfd_create("mtls-middleware"), "wb") as memory:
            memory.write(content)
            memory.flush()
            yield f"/proc/self/fd/{memory.fileno()}"
        return
    with tempfile.TemporaryDirectory() as directory:  # other users cannot read a temporary directory
        path = Path(directory, "pem")
        path.write_bytes(content)
        yield str(path)
