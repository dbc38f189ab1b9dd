"""`IssuedCertificate`: a test certificate with its key, and the headers and environ keys that describe it in a request.

The repr never shows the key.
"""

import base64
import hashlib
import os
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509 import Certificate, load_pem_x509_certificates

from mtls_middleware.certificate import ClientCertificate, Verification
from mtls_middleware.request import TESTING_KEY
from mtls_middleware.testing import encodings

if TYPE_CHECKING:
    from mtls_middleware.sources.source import Source
    from mtls_middleware.testing.request_fields import RequestFields

PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey

# The code points of RFC 8446 4.2.1 and B.4, which the ASGI TLS extension requires.
_TLS_1_3, _TLS_AES_128_GCM_SHA256 = 0x0304, 0x1301


@dataclass(frozen=True, repr=False)
class IssuedCertificate:
    """A test certificate and its private key.

    Attributes:
        x509: the leaf certificate, a `cryptography` object.
        key: the private key of the leaf certificate.
        chain: the intermediate certificates, beginning with the issuer of the leaf, without the root.

    Each `as_...` method returns the data that one kind of server or proxy passes to the application for a connection
    with this certificate.

    Example: `CertificateAuthority().issue("CN=billing,O=Acme").thumbprint`
    """

    x509: Certificate
    key: PrivateKey = field(repr=False)
    chain: tuple[Certificate, ...] = ()

    @property
    def der(self) -> bytes:
        """The leaf certificate in DER format."""
        return encodings.der(self.x509)

    @property
    def pem(self) -> str:
        """The leaf certificate in PEM format."""
        return encodings.pem((self.x509,))

    @property
    def chain_pem(self) -> str:
        """The leaf and intermediate certificates in PEM format, as a TLS client or server loads them."""
        return encodings.pem((self.x509, *self.chain))

    @property
    def key_pem(self) -> str:
        """The private key in PKCS #8 PEM format, not encrypted."""
        return self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode("ascii")

    @property
    def thumbprint(self) -> str:
        """The `x5t#S256` value (RFC 8705 3.1): the base64url of the SHA-256 digest of `der`, without padding."""
        return base64.urlsafe_b64encode(hashlib.sha256(self.der).digest()).rstrip(b"=").decode("ascii")

    def client_certificate(self, verification: Verification = Verification.BY_SERVER) -> ClientCertificate:
        """Return the `ClientCertificate` that an application behind the middleware gets for this certificate.

        Example: `assert rule.holds(client.client_certificate())`
        """
        chain = tuple(each.public_bytes(Encoding.DER) for each in self.chain)
        return ClientCertificate.from_der(self.der, chain=chain, verification=verification)

    def write(self, directory: str | PathLike[str], *, name: str = "client") -> tuple[Path, Path]:
        """Write `<name>.pem` (leaf and intermediates) and `<name>-key.pem` (mode 0600), and return both paths.

        The directory must exist. Raises `OSError`.

        Example: `context.load_cert_chain(*client.write(tmp_path))`
        """
        certificate, key = Path(directory, f"{name}.pem"), Path(directory, f"{name}-key.pem")
        for path, text, mode in ((certificate, self.chain_pem, 0o666), (key, self.key_pem, 0o600)):
            path.unlink(missing_ok=True)  # the new file must have its own mode, and a link must not be followed
            with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w", encoding="ascii") as file:
                file.write(text)
        return certificate, key

    @classmethod
    def read(cls, directory: str | PathLike[str], *, name: str = "client") -> Self:
        """Read the files that `write` or `mtls-middleware dev-ca` made. Raises `OSError` and `ValueError`.

        Example: `IssuedCertificate.read(".mtls-dev").for_source(source)`
        """
        leaf, *chain = load_pem_x509_certificates(Path(directory, f"{name}.pem").read_bytes())
        try:
            key = load_pem_private_key(Path(directory, f"{name}-key.pem").read_bytes(), password=None)
        except (TypeError, UnsupportedAlgorithm) as error:
            raise ValueError(f"{name}-key.pem is encrypted, or of an unknown type") from error
        if not isinstance(key, PrivateKey):
            raise ValueError(f"{name}-key.pem has a {type(key).__name__}; expected an EC, RSA or Ed25519 key")
        return cls(leaf, key, tuple(chain))

    def for_source(
        self, source: "Source", *, verified: bool = True, proxy: "IssuedCertificate | None" = None
    ) -> "RequestFields":
        """Return the header fields that `source` reads for this certificate, and the rest of such a request.

        Arguments:
            source: an object of `mtls_middleware.sources`. The peer's address and the shared secret are those that it
                trusts.
            verified: whether the verification word says that the proxy verified the certificate.
            proxy: the proxy's own certificate, if the source has `proxy_certificate=`.

        Raises `ConfigurationError` for a source of your own, and if the source cannot express an argument.

        Example: `client = TestClient(app, headers=billing.for_source(source))`
        """
        from mtls_middleware.testing.request_fields import Connection, request_fields

        return request_fields(
            (self.x509, *self.chain),
            source,
            verified=verified,
            own=Connection(self.as_environ(), self.as_tls_extension()),
            proxy=None if proxy is None else Connection(proxy.as_environ(), proxy.as_tls_extension()),
        )

    def as_environ(self, *, verify: str = "SUCCESS") -> dict[str, Any]:
        """Return the WSGI variables of mod_ssl, which `ServerTLS` reads, together with `TESTING_ENVIRON`.

        Arguments:
            verify: the value of `SSL_CLIENT_VERIFY`. `"SUCCESS"` makes the certificate `BY_SERVER`; `"GENEROUS"` and
                `"FAILED:reason"` make it `PRESENTED`.

        Example: `flask_app.test_client().get("/", environ_overrides=client.as_environ())`
        """
        chain = {f"SSL_CLIENT_CERT_CHAIN_{number}": encodings.pem((each,)) for number, each in enumerate(self.chain)}
        return {"SSL_CLIENT_CERT": self.pem, "SSL_CLIENT_VERIFY": verify, **chain, TESTING_KEY: True}

    def as_tls_extension(self, *, error: str | None = None) -> dict[str, Any]:
        """Return the ASGI TLS extension (0.2) with all its keys, from which `ServerTLS` reads a certificate.

        Arguments:
            error: the value of `client_cert_error`. Any string makes the certificate `PRESENTED`. With `None`, the
                certificate is `BY_SERVER`.

        Example: `scope["extensions"] = {"tls": client.as_tls_extension()}`
        """
        return {
            "server_cert": None,
            "client_cert_chain": [encodings.pem((each,)) for each in (self.x509, *self.chain)],
            "client_cert_name": self.x509.subject.rfc4514_string(),
            "client_cert_error": error,
            "tls_version": _TLS_1_3,
            "cipher_suite": _TLS_AES_128_GCM_SHA256,
        }

    def as_client_cert(self) -> dict[str, str]:
        """Return the fields that `ClientCertHeader` reads (RFC 9440).

        They are `Client-Cert` and, if there is a chain, `Client-Cert-Chain`.

        Example: `client.get("/", headers=billing.as_client_cert())`
        """
        fields = {"Client-Cert": encodings.byte_sequences((self.x509,))}
        if self.chain:
            fields["Client-Cert-Chain"] = encodings.byte_sequences(self.chain)
        return fields

    def as_nginx(self, *, verify: str = "SUCCESS") -> dict[str, str]:
        """Return the fields that `Nginx` reads.

        Their values are those of nginx's `$ssl_client_escaped_cert` and `$ssl_client_verify`.

        Arguments:
            verify: the value of `X-SSL-Client-Verify`. `"SUCCESS"` makes the certificate `BY_PROXY`, and
                `"FAILED:reason"` makes it `PRESENTED`.

        Example: `client.get("/", headers=billing.as_nginx())`
        """
        return {"X-SSL-Client-Cert": encodings.escaped_pem((self.x509,)), "X-SSL-Client-Verify": verify}

    def __repr__(self) -> str:
        return f"<IssuedCertificate {self.x509.subject.rfc4514_string()!a} {self.thumbprint}>"
