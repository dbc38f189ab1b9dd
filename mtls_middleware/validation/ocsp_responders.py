"""`Responders`: the configured OCSP responders, by the issuer of the certificates for which they are responsible."""

import ssl
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from mtls_middleware.effects.address import check_address
from mtls_middleware.effects.exchange import Connections
from mtls_middleware.errors import ConfigurationError
from mtls_middleware.names import distinguished
from mtls_middleware.parser_errors import UNREADABLE
from mtls_middleware.validation.crl import StatusRequest
from mtls_middleware.validation.files import Contents, FileCache
from mtls_middleware.validation.trust_files import read_certificates

Issuer = str | PathLike[str] | x509.Certificate

_EXAMPLE = "{'CN=Clients CA,O=Acme': 'http://ocsp.ca.internal'}"


@dataclass(frozen=True, slots=True, eq=False)
class Responder:
    """The responder at one URL. If several issuers have the same URL, they share its connections."""

    url: str
    connections: Connections


class Responders:
    """Finds the responder for a certificate. The address in a certificate is never used.

    Arguments:
        given: a URL for all issuers, or a mapping from an issuer to a URL: see `OCSP`.
        tls, proxy: see `Connections`.
        allow_http: allow http to any host.
        uses_get: whether requests are sent by GET, which adds them to the path of the URL (RFC 6960 A.1).

    Raises `ConfigurationError` if an argument is invalid.
    """

    def __init__(
        self,
        given: str | Mapping[str, str] | Mapping[Issuer, str],
        tls: ssl.SSLContext,
        proxy: str | None,
        *,
        allow_http: bool,
        uses_get: bool = False,
    ) -> None:
        by_issuer = {"*": given} if isinstance(given, str) else given
        if not isinstance(by_issuer, Mapping) or not by_issuer:
            raise ConfigurationError(f"responders={given!r}: expected a URL or a mapping, for example {_EXAMPLE}")
        by_url: dict[str, Responder] = {}
        self._by_issuer: dict[Hashable, Responder] = {}
        for issuer, url in by_issuer.items():
            check_address("responders", url, allow_http=allow_http, example="http://ocsp.ca.internal", is_signed=True)
            if uses_get and "?" in url:
                raise ConfigurationError(
                    f"responders: {url!r} has a query; with method='GET', expected a URL without it"
                )
            responder = by_url.setdefault(url, Responder(url, Connections(tls, proxy=proxy)))
            key = _issuer_key(issuer)
            if key in self._by_issuer:
                raise ConfigurationError(f"responders: two entries for the issuer {issuer!r}; expected one")
            self._by_issuer[key] = responder

    def find(self, request: StatusRequest) -> Responder | None:
        """Return the responder for a certificate: the entry with its issuer's key, with its issuer's name, or `"*"`."""
        found = self._by_issuer
        if len(found) == 1 and "*" in found:
            return found["*"]
        return found.get(_key(request.issuer)) or found.get(request.issuer_name) or found.get("*")


def _issuer_key(issuer: object) -> Hashable:
    if issuer == "*":
        return "*"
    if isinstance(issuer, x509.Certificate):
        return _key(issuer)
    if isinstance(issuer, str) and "=" in issuer:
        try:
            return distinguished.parse_expected(issuer).comparison_key
        except ValueError as error:
            raise ConfigurationError(f"responders: {issuer!r} is not a distinguished name: {error}") from error
    return _key(_read_certificate("responders", issuer))


def _key(certificate: x509.Certificate) -> Hashable:
    key = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return distinguished.comparison_key(certificate.subject), key


def _read_certificate(name: str, given: object) -> x509.Certificate:
    """Return a certificate, or the only certificate in a PEM file. Raises `ConfigurationError`.

    `name`: the name of the argument, for the message.
    """
    if isinstance(given, x509.Certificate):
        return given
    if not isinstance(given, (str, PathLike)) or not str(given):
        raise ConfigurationError(
            f"{name}: unexpected {given!r}; expected a certificate or the path of a PEM file. responders= also takes a "
            f"name, for example {_EXAMPLE}"
        )
    try:
        return _only_certificate(Path(given).read_bytes(), str(given))
    except OSError as error:
        raise ConfigurationError(f"{name}: {str(given)!r} cannot be read ({type(error).__name__})") from error
    except UNREADABLE as error:
        raise ConfigurationError(f"{name}: {str(given)!r}: {error}") from error


def _only_certificate(octets: bytes, file: str) -> x509.Certificate:
    """Return the only certificate in the bytes of a PEM file. Raises `ValueError`."""
    found = read_certificates(octets, file)
    if len(found) != 1:
        raise ValueError(f"found {len(found)} certificates; expected exactly one")
    return found[0]


# The certificate of `signed_by`, and its DER.
Signer = tuple[x509.Certificate, bytes]


def configured_signer(given: str | PathLike[str] | x509.Certificate) -> FileCache[x509.Certificate, Signer]:
    """Return the certificate of `signed_by`, which is read again when its file changes. Raises `ConfigurationError`."""
    certificate = _read_certificate("signed_by", given)
    path = None if isinstance(given, x509.Certificate) else Path(given)

    def combine(_: Signer | None, contents: Contents[x509.Certificate], __: float) -> Signer:
        if path is not None and not contents[path]:
            raise ConfigurationError(f"signed_by: the file {path} is missing; expected one PEM certificate")
        found = certificate if path is None else next(iter(contents[path].values()))
        return found, found.public_bytes(Encoding.DER)

    return FileCache(
        [] if path is None else [path],
        (),
        lambda file: _only_certificate(file.read(), file.name),
        combine,
        gone="the certificate that it contained stays in use",
    )
