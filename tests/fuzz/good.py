"""Good input for each parser."""

import base64
import json
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.ocsp import load_der_ocsp_request
from cryptography.x509.oid import ExtendedKeyUsageOID

from mtls_middleware.testing import CertificateAuthority, TokenIssuer
from mtls_middleware.validation.crl import StatusRequest
from mtls_middleware.validation.ocsp_response import build_request
from tests.resource_server import forge
from tests.validation.responder import failure, respond

AUTHORITY = CertificateAuthority("CN=ca,O=Acme")
LEAF = AUTHORITY.issue(
    "CN=a\\,b+OU=x,O=Acme,DC=example",
    dns=["a.example"],
    uris=["urn:a,b", "spiffe://e/x"],
    ip_addresses=["192.0.2.7"],
    emails=["a@b.example"],
)
WORKLOAD = AUTHORITY.issue("CN=w", uris=["spiffe://acme.internal/w"])
_MIDDLE = AUTHORITY.intermediate("CN=middle,O=Acme")
_LOW = _MIDDLE.intermediate("CN=low,O=Acme")
_BELOW = [_LOW.issue("CN=w", uris=["spiffe://e/w"]), _MIDDLE.issue("CN=v", dns=["a.example"])]
CHAINS = [each.der + b"".join(each.client_certificate().chain) for each in _BELOW]
DER, PEM = LEAF.der, LEAF.as_nginx()["X-SSL-Client-Cert"].encode()
BASE64 = base64.b64encode(DER)
HEX = LEAF.x509.fingerprint(hashes.SHA256()).hex().encode()
ISSUER = TokenIssuer()
TOKEN = ISSUER.token(certificate=LEAF, lifetime=timedelta(days=1)).encode()
OTHER_TOKEN = forge.token(payload=forge.with_member('"a": [1, {"b": null}]')).encode()
XFCC = [
    b'Hash=%b;Cert="%b";Subject="CN=x";URI=urn:a,b;DNS=a' % (HEX, PEM),
    b'By=spiffe://x;Hash=%b;Chain="%b%b",Hash=%b;Cert="%b"' % (HEX, PEM, PEM, HEX, PEM),
    b"URI=spiffe://x" * 3,
]
FIELD = b":%b:" % BASE64
FIELDS = [PEM, b"SUCCESS", b"NONE", b"0", b"true", b"FAILED:x", BASE64, FIELD, XFCC[0], b"10.0.0.1", b"/x", DER, b"443"]


def crl() -> bytes:
    now = datetime.now(UTC)
    point = x509.IssuingDistributionPoint(
        [x509.UniformResourceIdentifier("http://a/")], None, False, False, None, False, False
    )
    builder = x509.CertificateRevocationListBuilder().issuer_name(AUTHORITY.certificate.subject)
    builder = builder.last_update(now).next_update(now + timedelta(1))
    builder = builder.add_extension(x509.CRLNumber(1), False).add_extension(point, True)
    for number in range(1, 6):
        entry = x509.RevokedCertificateBuilder().serial_number(number).revocation_date(now)
        reason = x509.CRLReason(x509.ReasonFlags.key_compromise)
        builder = builder.add_revoked_certificate(entry.add_extension(reason, False).build())
    return builder.sign(AUTHORITY.key, hashes.SHA256()).public_bytes(Encoding.DER)


OCSP_REQUEST = build_request(StatusRequest(LEAF.x509, AUTHORITY.certificate), hashes.SHA256(), b"n" * 32)
_RESPONDER = AUTHORITY.issue(
    "CN=OCSP",
    extended_key_usage=(),
    extensions=[(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.OCSP_SIGNING]), False)],
)
_READ = load_der_ocsp_request(OCSP_REQUEST.der)
OCSP = [
    respond(AUTHORITY, _READ),
    respond(AUTHORITY, _READ, key=_RESPONDER.key, named=_RESPONDER.x509, certificates=[_RESPONDER.x509]),
    failure("TRY_LATER"),
]


def dumped(value: Any) -> bytes:
    return json.dumps(value).encode()


X5C = [BASE64.decode()]
JWKS = dumped({"keys": [*ISSUER.jwks["keys"], {"kty": "RSA", "n": "AQAB" * 90, "e": "AQAB"}, forge.JWK]})
CERTIFICATE_JWKS = dumped(
    {"keys": [{"kty": "EC", "crv": "P-256", "x": "a", "y": "b", "x5c": X5C}, {**forge.JWK, "x5c": X5C}]}
)
BUNDLE = dumped({"keys": [{"use": "x509-svid", "kty": "EC", "x5c": X5C}], "spiffe_sequence": 1})
METADATA = dumped({"issuer": "https://as.test", "jwks_uri": "https://as.test/jwks", "x": [1]})
REGISTRATIONS = [
    dumped(
        {"client_id": "a", "token_endpoint_auth_method": "tls_client_auth", "tls_client_auth_subject_dn": "CN=a,O=b"}
    ),
    dumped({"client_id": "a", "token_endpoint_auth_method": "tls_client_auth", "tls_client_auth_san_ip": "::1"}),
    dumped(
        {
            "client_id": "a",
            "token_endpoint_auth_method": "self_signed_tls_client_auth",
            "jwks": json.loads(CERTIFICATE_JWKS),
        }
    ),
    dumped({"client_id": "a", "token_endpoint_auth_method": "self_signed_tls_client_auth", "jwks_uri": "https://a/"}),
]
INTROSPECTION = dumped(
    {
        "active": True,
        "scope": "a b",
        "exp": 4e9,
        "iat": 1,
        "iss": "https://as.test",
        "cnf": {"x5t#S256": LEAF.thumbprint},
    }
)
