"""The field lines that each kind of proxy writes of a certificate, by the names of `echo_applications.READS`."""

from collections.abc import Callable
from urllib.parse import quote

from mtls_middleware.testing import CertificateAuthority, IssuedCertificate

CA = CertificateAuthority()
GOOD, EVIL = CA.issue("CN=good"), CA.issue("CN=evil")

Lines = list[bytes]
Text = Callable[[IssuedCertificate], str]


def base64(client: IssuedCertificate) -> str:
    return client.as_client_cert()["Client-Cert"].strip(":")


def escaped(client: IssuedCertificate) -> str:
    return client.as_nginx()["X-SSL-Client-Cert"]


def field(name: str, value: Text, *more: str) -> Callable[[IssuedCertificate], Lines]:
    """The certificate's line, and lines that are the same for all."""
    return lambda client: [f"{name}: {value(client)}".encode(), *(each.encode() for each in more)]


_CERT, _SUCCESS = "X-SSL-Client-Cert", "X-SSL-Client-Verify: SUCCESS"
_RFC9440 = field("Client-Cert", lambda client: f":{base64(client)}:")
CLAIMS: dict[str, Callable[[IssuedCertificate], Lines]] = {
    "nginx": field(_CERT, escaped, _SUCCESS),
    "apache": field(_CERT, lambda client: client.pem.replace("\n", " "), _SUCCESS),
    "haproxy": field(_CERT, base64, "X-SSL-Client-Verify: 0"),
    "envoy": field("x-forwarded-client-cert", lambda client: f'Cert="{escaped(client)}"'),
    "traefik": field("X-Forwarded-Tls-Client-Cert", base64),
    "caddy": field(_CERT, base64),
    "rfc9440": _RFC9440,
    "unstated": _RFC9440,
    "google": field("X-Client-Cert-Leaf", lambda client: f":{base64(client)}:", "X-Client-Cert-Chain-Verified: true"),
    "cloudflare": field("Cf-Client-Cert-Der-Base64", base64, "Cf-Cert-Verified: true"),
    "azure": field("X-ARR-ClientCert", base64),
    "aws": field("X-Amzn-Mtls-Clientcert-Leaf", lambda client: quote(client.pem, safe="+=/")),
}
# No proxy, or none that is configured as it must be, says anything stronger of these.
PRESENTED = ("unstated", "azure")


def expected_report(client: IssuedCertificate, source: str = "nginx", chain: int = 0) -> dict[str, object]:
    """What the application says where this certificate is attached."""
    verification = "PRESENTED" if source in PRESENTED else "BY_PROXY"
    return {"thumbprint": client.thumbprint, "verification": verification, "chain": chain}
