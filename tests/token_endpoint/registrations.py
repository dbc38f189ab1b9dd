"""Two authorities of one name, and the clients that an authenticator knows."""

from mtls_middleware import RegisteredClient
from mtls_middleware.testing import CertificateAuthority, self_signed
from mtls_middleware.token_endpoint import ClientAuthenticator
from tests.token_endpoint.roles import jwks, own_certificates, pki

CA = CertificateAuthority()
ROGUE = CertificateAuthority()  # with the very name of the other
BILLING = CA.issue("CN=billing,O=Acme", dns=["billing.internal"])
REPORTS = CA.issue("CN=reports,O=Acme", dns=["reports.internal"])
EDGE, STRANGER = self_signed("CN=edge"), self_signed("CN=edge")

CLIENTS = {
    "billing": pki(san_dns="billing.internal"),
    "reports": pki("reports", subject_dn="CN=reports,O=Acme"),
    "edge": own_certificates(EDGE),
    "web": RegisteredClient(client_id="web", token_endpoint_auth_method="client_secret_basic"),
    "spa": RegisteredClient(client_id="spa", token_endpoint_auth_method="none"),
    "bank": RegisteredClient(client_id="bank", token_endpoint_auth_method="private_key_jwt", jwks=jwks(EDGE)),
}
AUTHENTICATOR = ClientAuthenticator(CLIENTS)

# Other methods' credentials, as a form has them.
SECRET = [("client_secret", "secret")]
ASSERTION = [
    ("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"),
    ("client_assertion", "e30.e30."),
]
