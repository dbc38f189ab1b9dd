"""`CertificateAuthority`: a throwaway CA in memory, the certificates it issues, TLS contexts that trust it.

Must never know: requests. Its keys protect nothing and leave memory only where `ssl` insists on files.
"""

import ipaddress
import ssl
import tempfile
from collections.abc import Collection
from datetime import datetime, timedelta
from typing import Literal, Unpack

from cryptography import x509

from mtls_middleware.errors import ConfigurationError
from mtls_middleware.testing.issued import IssuedCertificate, PrivateKey
from mtls_middleware.testing.template import CertificateOptions, Extension, make

# Outlives whatever it issues by default.
_CA_LIFETIME = timedelta(days=3650)


class CertificateAuthority:
    """A CA for tests: EC P-256, in memory, gone with the process.

    Arguments:
        name: the subject, an RFC 4514 text or an `x509.Name`.
        parent: the CA that signs this one; `None`: a root.
        not_before, not_after: aware datetimes; by default from a day ago for ten years from now.
        extensions: as in `CertificateOptions`, for example a path length or name constraints.

    Raises `ValueError`, of which `ConfigurationError` is one, where something given cannot go into a certificate.

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
        self._own: IssuedCertificate = make(
            name,
            None if parent is None else parent._own,
            not_before=not_before,
            not_after=not_after,
            lifetime=_CA_LIFETIME,
            extended_key_usage=(),
            ca=True,
            extensions=extensions,
        )
        self._own_chain: tuple[x509.Certificate, ...] = () if parent is None else (self._own.x509, *parent._own_chain)

    @property
    def certificate(self) -> x509.Certificate:
        """The CA's own certificate."""
        return self._own.x509

    @property
    def pem(self) -> str:
        """The CA's own certificate as PEM text: what a `TrustStore` or a proxy is given."""
        return self._own.pem

    @property
    def key(self) -> PrivateKey:
        """The CA's private key, for what this class has no method for, such as a CRL."""
        return self._own.key

    def intermediate(
        self,
        name: str | x509.Name = "CN=Test Intermediate CA,O=Tests",
        *,
        not_before: datetime | None = None,
        not_after: datetime | None = None,
        extensions: Collection[Extension] = (),
    ) -> "CertificateAuthority":
        """A CA below this one; what it issues carries it in `chain`. Raises as the constructor does.

        Example: `ca.intermediate().issue().chain`
        """
        return CertificateAuthority(
            name, parent=self, not_before=not_before, not_after=not_after, extensions=extensions
        )

    def issue(self, subject: str | x509.Name = "CN=client", **options: Unpack[CertificateOptions]) -> IssuedCertificate:
        """A certificate of this CA, by default for a TLS client, with a key of its own.

        Arguments: `subject`, an RFC 4514 text (may be empty) or an `x509.Name`; `options`, see `CertificateOptions`.

        Raises `ValueError`, of which `ConfigurationError` is one, where something given cannot go into a certificate.

        Example: `ca.issue("CN=billing,O=Acme", uris=["spiffe://acme.internal/billing"], key="rsa")`
        """
        made = make(subject, self._own, **options)
        return IssuedCertificate(made.x509, made.key, self._own_chain)

    def server(self, *hosts: str) -> IssuedCertificate:
        """A certificate for a TLS server under `hosts`, names and addresses; by default those of loopback.

        Example: `context = ca.server_context(ca.server())`
        """
        names = hosts or ("localhost", "127.0.0.1", "::1")
        addresses = [host for host in names if _is_address(host)]
        dns = [host for host in names if host not in addresses]
        return self.issue("CN=Test Server", dns=dns, ip_addresses=addresses, extended_key_usage=("server",))

    def server_context(
        self, server: IssuedCertificate, *, client_certificates: Literal["required", "optional"] = "required"
    ) -> ssl.SSLContext:
        """A server's TLS context: presents `server`, and trusts this CA, and no other, for clients.

        With `"optional"` a client without certificate is let in; one that does not verify never is.

        Raises `ConfigurationError`.

        Example: `asyncio.start_server(serve, "127.0.0.1", 0, ssl=ca.server_context(ca.server()))`
        """
        modes = {"required": ssl.CERT_REQUIRED, "optional": ssl.CERT_OPTIONAL}
        if client_certificates not in modes:
            raise ConfigurationError(f"client_certificates={client_certificates!r}: 'required' or 'optional'")
        context = self._trusting(ssl.PROTOCOL_TLS_SERVER)
        context.verify_mode = modes[client_certificates]
        _load(context, server)
        return context

    def client_context(self, client: IssuedCertificate | None = None) -> ssl.SSLContext:
        """A client's TLS context: trusts this CA, and no other, for servers, and presents `client` where given.

        Example: `httpx.Client(verify=ca.client_context(ca.issue()))`
        """
        context = self._trusting(ssl.PROTOCOL_TLS_CLIENT)
        if client is not None:
            _load(context, client)
        return context

    def _trusting(self, protocol: int) -> ssl.SSLContext:
        context = ssl.SSLContext(protocol)
        context.load_verify_locations(cadata=self.pem)
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # an intermediate may be the anchor
        return context

    def __repr__(self) -> str:
        return f"<CertificateAuthority {self.certificate.subject.rfc4514_string()!a}>"


def self_signed(subject: str | x509.Name = "CN=client", **options: Unpack[CertificateOptions]) -> IssuedCertificate:
    """A certificate signed by its own key, as `self_signed_tls_client_auth` admits them (RFC 8705 2.2).

    Takes and raises what `CertificateAuthority.issue` does.

    Example: `self_signed("CN=client").as_nginx(verify="FAILED:self signed certificate")`
    """
    return make(subject, None, **options)


def _load(context: ssl.SSLContext, own: IssuedCertificate) -> None:
    with tempfile.TemporaryDirectory() as directory:  # ssl reads files only; this one is for our eyes, and gone at once
        certificate, key = own.write(directory)
        context.load_cert_chain(certificate, key)


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
