"""Names with a string of an ASN.1 type that does not exist: rejected by type, with every release of `cryptography`."""

import base64
import contextlib
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from mtls_middleware.certificate import ClientCertificate
from mtls_middleware.errors import MalformedCertificate
from mtls_middleware.policy import Issuer, Subject
from mtls_middleware.sources import ServerTLS
from mtls_middleware.testing import CertificateAuthority, IssuedCertificate
from mtls_middleware.validation import crl
from tests.gateways import Request, both_gateways, send

ROOT = Path(__file__).resolve().parents[1]
NAMES = ("subject", "issuer", "subject_name", "issuer_name")
UTF8_STRING = b"\x0c"
# Types that no string has: reserved, BOOLEAN, INTEGER, NULL, OBJECT IDENTIFIER, a type of 30 and more.
TYPES = [b"\x00", b"\x01", b"\x02", b"\x05", b"\x06", b"\x1f"]

PROGRAM = """
import sys
from mtls_middleware.certificate import ClientCertificate
from mtls_middleware.errors import MalformedCertificate
for line in sys.stdin:
    for name in ("subject", "issuer", "subject_name", "issuer_name"):
        try:
            getattr(ClientCertificate.from_der(bytes.fromhex(line)), name)
        except MalformedCertificate:
            pass
print("no other exception")
"""


def spoilt(der: bytes, name: str, kind: bytes) -> bytes:
    """The certificate with another type for the string `name`, wherever it is."""
    value = bytes([len(name)]) + name.encode()
    assert UTF8_STRING + value in der
    return der.replace(UTF8_STRING + value, kind + value)


@pytest.fixture(scope="module")
def client() -> IssuedCertificate:
    return CertificateAuthority("CN=strange CA").issue("CN=strange client")


@pytest.mark.parametrize("kind", TYPES, ids=bytes.hex)
@pytest.mark.parametrize("name", ["strange client", "strange CA"])
def test_no_property_raises_an_exception_of_another_type(client: IssuedCertificate, name: str, kind: bytes) -> None:
    der = spoilt(client.der, name, kind)
    for each in NAMES:
        try:
            getattr(ClientCertificate.from_der(der), each)
        except MalformedCertificate:
            continue


@pytest.mark.live
def test_nor_with_the_oldest_release(client: IssuedCertificate) -> None:
    """cryptography 46 to 49 raise `KeyError`."""
    lines = [spoilt(client.der, name, kind).hex() for name in ("strange client", "strange CA") for kind in TYPES]
    python = ROOT / ".venv.oldest" / "bin" / "python"
    done = subprocess.run(
        [python, "-c", PROGRAM], input="\n".join(lines), capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert done.stdout == "no other exception\n", done.stderr


@both_gateways
@pytest.mark.parametrize("kind", TYPES, ids=bytes.hex)
@pytest.mark.parametrize("name", ["strange client", "strange CA"])
def test_a_request_with_such_a_certificate_is_rejected(
    client: IssuedCertificate, gateway: str, name: str, kind: bytes
) -> None:
    import ssl

    pem = ssl.DER_cert_to_PEM_cert(spoilt(client.der, name, kind))
    tls: dict[str, Any] = {"server_cert": None, "client_cert_chain": [pem], "client_cert_error": None}
    request = Request(extra={"SSL_CLIENT_CERT": pem, "SSL_CLIENT_VERIFY": "SUCCESS", "extensions": {"tls": tls}})
    rule = Subject("CN=strange client") & Issuer("CN=strange CA")
    result = send(gateway, lambda module, app: module.protect(app, source=ServerTLS(), allow=rule), request)
    assert (result.status in {400, 403}, result.seen) == (True, None)


@pytest.mark.parametrize("kind", TYPES, ids=bytes.hex)
def test_files_with_such_names_say_why_they_cannot_be_read(
    client: IssuedCertificate, kind: bytes, tmp_path: Path
) -> None:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import Encoding

    from mtls_middleware.validation.spiffe_bundles import read_jwks

    der = spoilt(client.der, "strange client", kind)
    document = {"keys": [{"kty": "EC", "use": "x509-svid", "x5c": [base64.b64encode(der).decode()]}]}
    with contextlib.suppress(ValueError):
        assert [each.public_bytes(Encoding.DER) for each in read_jwks(json.dumps(document).encode())] == [der]
    issuer = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "strange CA")])
    start = client.x509.not_valid_before_utc
    builder = x509.CertificateRevocationListBuilder(issuer, start, client.x509.not_valid_after_utc)
    whole = builder.sign(ec.generate_private_key(ec.SECP256R1()), hashes.SHA256()).public_bytes(Encoding.DER)
    with contextlib.suppress(ValueError):
        crl.parse(spoilt(whole, "strange CA", kind))
