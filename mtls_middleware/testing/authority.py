"""`CertificateAuthority`: a throwaway CA for tests, which issues certificates and creates TLS contexts.

Keys stay in memory. To create a TLS context, a key is written to a temporary file, because `ssl` loads only files.
"""

import ipaddress
import ssl
import tempfile
from collections.abc import Collection
from datetime import datetime, timedelta
from typing import Literal, Unpack

from cryptography import x509

from mtls_middleware.errors import ConfigurationError
from mtls_middleware.testing.issued_certificate import IssuedCertificate, PrivateKey
from mtls_middleware.testing.template import CertificateOptions, Extension, make

# The default lifetime of a CA. It is longer than the default lifetime of the certificates that the CA issues.
_CA_LIFETIME = timedelta(days=3650)


class CertificateAuthority:
    """A CA for tests, with an EC P-256 key that exists only in memory.

    Arguments:
        name: the subject, an RFC 4514 string or an `x509.Name`.
        parent: the CA that signs this CA's certificate. If `None`, this CA is a root.
        not_before, not_after: aware datetimes; by default one day ago and ten years from now.
        extensions: see `CertificateOptions`. An example is a path length, or name constraints.

    Raises `ValueError`, or its subclass `ConfigurationError`, if an argument cannot be part of a certificate.

    Example: `client = CertificateAuthority().issue("CN=billing,O=Acme", dns=["billing.internal"])`
    """

    def __init__(
        self,
        name: str | x509.Name = "CN=Test Client CA,O=Tests",
        *,
        parent: "CertificateAuthority | None" = None,
        not_before: datetime | None = None,
        not_after: datetime | None = None,
        extensions: Collection[Extension] = (),
    ) -> None:
        self._identity: IssuedCertificate = make(
            name,
            None if parent is None else parent._identity,
            not_before=not_before,
            not_after=not_after,
            lifetime=_CA_LIFETIME,
            extended_key_usage=(),
            ca=True,
            extensions=extensions,
        )
        self._own_chain: tuple[x509.Certificate, ...] = ()
        if parent is not None:
            self._own_chain = (self._identity.x509, *parent._own_chain)

    @property
    def certificate(self) -> x509.Certificate:
        """The CA's own certificate."""
        return self._identity.x509

    @property
    def pem(self) -> str:
        """The CA's own certificate in PEM format, for example for a `TrustStore` or a proxy."""
        return self._identity.pem

    @property
    def key(self) -> PrivateKey:
        """The CA's private key, for tasks that this class does not support, such as signing a CRL."""
        return self._identity.key

    def intermediate(
        self,
        name: str | x509.Name = "CN=Test Intermediate CA,O=Tests",
        *,
        not_before: datetime | None = None,
        not_after: datetime | None = None,
        extensions: Collection[Extension] = (),
    ) -> "CertificateAuthority":
        """Return a new CA whose certificate this CA signs. Raises the same exceptions as the constructor.

        If the new CA issues a certificate, `chain` of that certificate contains the certificate of the new CA.

        Example: `ca.intermediate().issue().chain`
        """
        return CertificateAuthority(
            name, parent=self, not_before=not_before, not_after=not_after, extensions=extensions
        )

    def issue(self, subject: str | x509.Name = "CN=client", **options: Unpack[CertificateOptions]) -> IssuedCertificate:
        """Issue a certificate, by default for a TLS client and with a new key.

        Arguments:
            subject: an RFC 4514 string (may be empty) or an `x509.Name`.
            options: see `CertificateOptions`.

        Raises `ValueError`, or its subclass `ConfigurationError`, if an argument cannot be part of a certificate.

        Example: `ca.issue("CN=billing,O=Acme", uris=["spiffe://acme.internal/billing"], key="rsa")`
        """
        issued = make(subject, self._identity, **options)
        return IssuedCertificate(issued.x509, issued.key, self._own_chain)

    def server(self, *hosts: str, not_after: datetime | None = None) -> IssuedCertificate:
        """Issue a certificate for a TLS server.

        Arguments:
            hosts: host names and IP addresses; by default `localhost`, `127.0.0.1` and `::1`.
            not_after: an aware datetime; by default 90 days from now.

        Example: `context = ca.server_context(ca.server())`
        """
        names = hosts or ("localhost", "127.0.0.1", "::1")
        addresses = [host for host in names if _is_address(host)]
        dns = [host for host in names if host not in addresses]
        return self.issue(
            "CN=Test Server", dns=dns, ip_addresses=addresses, extended_key_usage=("server",), not_after=not_after
        )

    def server_context(
        self, server: IssuedCertificate, *, client_certificates: Literal["required", "optional"] = "required"
    ) -> ssl.SSLContext:
        """Return a TLS context for a server that presents `server`, and trusts only this CA for client certificates.

        With `"optional"`, a client without a certificate is accepted. A certificate that does not verify is always
        rejected.

        Raises `ConfigurationError` for any other value of `client_certificates`.

        Example: `asyncio.start_server(serve, "127.0.0.1", 0, ssl=ca.server_context(ca.server()))`
        """
        modes = {"required": ssl.CERT_REQUIRED, "optional": ssl.CERT_OPTIONAL}
        if client_certificates not in modes:
            raise ConfigurationError(f"client_certificates={client_certificates!r}: expected 'required' or 'optional'")
        context = self._trust_context(ssl.PROTOCOL_TLS_SERVER)
        context.verify_mode = modes[client_certificates]
        _load(context, server)
        return context

    def client_context(self, client: IssuedCertificate | None = None) -> ssl.SSLContext:
        """Return a TLS context for a client that trusts only this CA for server certificates.

        If `client` is given, the TLS client presents this certificate.

        Example: `httpx.Client(verify=ca.client_context(ca.issue()))`
        """
        context = self._trust_context(ssl.PROTOCOL_TLS_CLIENT)
        if client is not None:
            _load(context, client)
        return context

    def _trust_context(self, protocol: int) -> ssl.SSLContext:
        context = ssl.SSLContext(protocol)
        context.load_verify_locations(cadata=self.pem)
        # Without this flag, an intermediate CA could not be the trust anchor.
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        return context

    def __repr__(self) -> str:
        return f"<CertificateAuthority {self.certificate.subject.rfc4514_string()!a}>"


def self_signed(subject: str | x509.Name = "CN=client", **options: Unpack[CertificateOptions]) -> IssuedCertificate:
    """Return a new self-signed certificate, for example for `self_signed_tls_client_auth` (RFC 8705 2.2).

    Arguments and exceptions: see `CertificateAuthority.issue`.

    Example: `self_signed("CN=client").as_nginx(verify="FAILED:self signed certificate")`
    """
    return make(subject, None, **options)


def _load(context: ssl.SSLContext, certificate_and_key: IssuedCertificate) -> None:
    with tempfile.TemporaryDirectory() as directory:  # `ssl` loads only files. Other users cannot read this folder.
        certificate, key = certificate_and_key.write(directory)
        context.load_cert_chain(certificate, key)


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
