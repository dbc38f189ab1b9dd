"""Files that are no trust files: each message names the file, the position, and the command that converts the file.

Reports: pyca/cryptography#11365, openssl/openssl#9187, Netflix/lemur#3685.
"""

import base64
import os
import re
import subprocess
import time
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat
from cryptography.hazmat.primitives.serialization import pkcs7 as pkcs7_of
from cryptography.hazmat.primitives.serialization import pkcs12 as pkcs12_of

from mtls_middleware.errors import ConfigurationError
from mtls_middleware.policy import IssuedBy
from mtls_middleware.testing import CertificateAuthority
from mtls_middleware.validation import TrustStore
from tests.validation.authority import crl
from tests.validation.unusual_certificates import version_1, without_key_identifier
from tests.validation.verdicts import reasons

ROOT, OTHER = CertificateAuthority("CN=Root,O=Acme"), CertificateAuthority("CN=Other")
CLIENT = ROOT.issue("CN=billing")
CERTIFICATE = ROOT.certificate
DER = CERTIFICATE.public_bytes(Encoding.DER)
KEY = ec.generate_private_key(ec.SECP256R1())
PLAIN = NoEncryption()
NOW = time.time()


def pem(der: bytes, label: str = "CERTIFICATE") -> bytes:
    return b"-----BEGIN %b-----\n%b-----END %b-----\n" % (label.encode(), base64.encodebytes(der), label.encode())


PEM = pem(DER)
# An extension whose default value is written out, which `cryptography` rejects: `critical` is FALSE.
UNREADABLE = DER.replace(b"\x06\x03\x55\x1d\x0e\x04", b"\x06\x03\x55\x1d\x0e\x01\x01\x00\x04", 1)
PKCS12 = pkcs12_of.serialize_key_and_certificates(b"x", KEY, None, [CERTIFICATE], BestAvailableEncryption(b"x"))
CSR = (
    x509.CertificateSigningRequestBuilder()
    .subject_name(CERTIFICATE.subject)
    .sign(KEY, CERTIFICATE.signature_hash_algorithm)
)
TRADITIONAL, PKCS8 = PrivateFormat.TraditionalOpenSSL, PrivateFormat.PKCS8

FILES: dict[str, tuple[bytes, str]] = {
    "DER": (DER, r"a certificate \(DER\).*openssl x509 -inform DER -in .* -out"),
    "PKCS#7": (pkcs7_of.serialize_certificates([CERTIFICATE], Encoding.PEM), "PKCS#7.*openssl pkcs7 -print_certs -in"),
    "PKCS#7 in DER": (
        pkcs7_of.serialize_certificates([CERTIFICATE], Encoding.DER),
        r"PKCS#7 \(DER\).*openssl pkcs7 -inform DER -print_certs",
    ),
    "PKCS#12": (PKCS12, "PKCS#12.*openssl pkcs12 -in"),
    "Java key store": (b"\xfe\xed\xfe\xed\0\0\0\2", "JKS.*keytool -exportcert -rfc"),
    "trusted": (
        pem(DER, "TRUSTED CERTIFICATE"),
        r"block 1 of 1 \(TRUSTED CERTIFICATE\) .*trust settings.*openssl x509 -in",
    ),
    "empty": (b"", "is empty"),
    "blank": (b"\xef\xbb\xbf \r\n\n", "is empty"),
    "key first": (
        KEY.private_bytes(Encoding.PEM, PKCS8, PLAIN) + PEM,
        r"block 1 of 2 \(PRIVATE KEY\) is a private key.*openssl crl2pkcs7 -nocrl -certfile",
    ),
    "key last": (
        PEM + PEM + KEY.private_bytes(Encoding.PEM, TRADITIONAL, PLAIN),
        r"block 3 of 3 \(EC PRIVATE KEY\) is a private key",
    ),
    "encrypted key": (
        KEY.private_bytes(Encoding.PEM, PKCS8, BestAvailableEncryption(b"x")),
        r"block 1 of 1 \(ENCRYPTED PRIVATE KEY\) is a private",
    ),
    "key in DER": (KEY.private_bytes(Encoding.DER, PKCS8, PLAIN), "a private key"),
    "EC parameters": (
        PEM + pem(b"\x06\x01\x01", "EC PARAMETERS"),
        r"block 2 of 2 \(EC PARAMETERS\) is parameters of a key",
    ),
    "revocation list": (pem(crl(ROOT, now=NOW), "X509 CRL"), "a revocation list.*RevocationLists"),
    "revocation list in DER": (crl(ROOT, now=NOW), "a revocation list.*RevocationLists"),
    "request": (CSR.public_bytes(Encoding.PEM), "a certificate request"),
    "request in DER": (CSR.public_bytes(Encoding.DER), "a certificate request"),
    "UTF-16": (PEM.decode().encode("utf-16"), "UTF-16.*iconv"),
    "base64 alone": (b"".join(PEM.splitlines()[1:-1]), "base64 without the line.*openssl base64 -d"),
    "HTML": (b"<!DOCTYPE html><title>404</title>", "no line -----BEGIN CERTIFICATE-----"),
    "cut off": (PEM + PEM[:-40], "block 2 is not complete"),
    "no end": (PEM.replace(b"-----END CERTIFICATE-----\n", b"") + PEM, "block 1 is not complete"),
    "no beginning": (PEM + PEM[30:], "after block 1"),
    "second unreadable": (PEM + pem(UNREADABLE) + PEM, r"certificate 2 of 3 cannot be read: .*EncodedDefault"),
    "third no base64": (PEM + PEM + PEM.replace(b"MII", b"MI!"), "certificate 3 of 3 cannot be read"),
    "four dashes": (PEM.replace(b"-----BEGIN", b"----BEGIN"), "in the file, an END line has no line"),
    "backslashes": (PEM.replace(b"\n", b"\\n"), "certificate 1 of 1 .*instead of line breaks.*sed"),
    "PKCS#7 as a certificate": (
        PEM + pem(pkcs7_of.serialize_certificates([CERTIFICATE], Encoding.DER)),
        r"certificate 2 of 2 cannot be read: .*its content is PKCS#7.*openssl pkcs7 -inform DER",
    ),
    "key as a certificate": (
        pem(KEY.private_bytes(Encoding.DER, PKCS8, PLAIN)),
        "certificate 1 of 1 cannot be read: .*its content is a private key",
    ),
    "leaf": (CLIENT.pem.encode(), "certificate 1 of 1 can never.*not a CA.*openssl x509 -in .* -noout -issuer"),
    "leaf behind a root": (PEM + CLIENT.pem.encode(), "certificate 2 of 2 can never"),
}


@pytest.mark.parametrize("kind", FILES)
def test_the_message_names_file_position_and_command(tmp_path, kind):
    content, expected = FILES[kind]
    path = tmp_path / "clients ca.pem"
    path.write_bytes(content)
    with pytest.raises(ConfigurationError) as error:
        TrustStore([path])
    message = str(error.value)
    assert message.startswith(f"{path}: ")
    assert re.search(expected, message), message
    assert " -in " not in message or f" -in '{path}' " in message


@pytest.mark.parametrize(
    "kind", ["DER", "PKCS#7", "PKCS#7 in DER", "trusted", "key last", "key first", "base64 alone", "backslashes"]
)
def test_the_command_in_the_message_makes_a_trust_file(tmp_path, kind):
    path = tmp_path / "clients ca.crt"
    path.write_bytes(FILES[kind][0])
    with pytest.raises(ConfigurationError) as error:
        TrustStore([path])
    command = re.search("`(.*)`", str(error.value))
    assert command is not None
    subprocess.run(["/bin/sh", "-ec", command[1]], cwd=tmp_path, check=True, stdin=subprocess.DEVNULL)
    assert reasons(TrustStore([tmp_path / "converted.pem"]), CLIENT, NOW) == ()


def req(folder: Path, *options: str) -> Path:
    """Let OpenSSL make a self-signed root with these options."""
    (folder / "o.cnf").write_text("[req]\ndistinguished_name=d\n[d]\n")
    line = (
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout ca.key -subj /CN=R -config o.cnf"
    )
    subprocess.run([*line.split(), "-out", "old.pem", *options], cwd=folder, check=True, capture_output=True)
    return folder / "old.pem"


CA, SKI = ("-addext", "basicConstraints=critical,CA:TRUE"), ("-addext", "subjectKeyIdentifier=hash")
USABLE_ROOTS = {"plain": (*CA, *SKI), "keyUsage": (*CA, *SKI, "-addext", "keyUsage=critical,keyCertSign")}
BAD_ROOTS = {
    "no basicConstraints": (SKI, "no basicConstraints"),
    "not critical": (("-addext", "basicConstraints=CA:TRUE", *SKI), "basicConstraints is not critical"),
    "no keyCertSign": ((*CA, *SKI, "-addext", "keyUsage=critical,cRLSign"), "keyUsage lacks keyCertSign"),
    "for servers": ((*CA, *SKI, "-addext", "extendedKeyUsage=serverAuth"), "extendedKeyUsage lacks clientAuth"),
    "critical identifier": (
        (*CA, *SKI, "-addext", "authorityKeyIdentifier=critical,keyid:always"),
        "critical extension .* 2.5.29.35",
    ),
    "policies": ((*CA, *SKI, "-addext", "policyConstraints=critical,requireExplicitPolicy:0"), "policyConstraints"),
    "unknown extension": ((*CA, *SKI, "-addext", "1.2.3.4=critical,DER:0500"), "critical extension .* 1.2.3.4"),
}


@pytest.mark.parametrize("kind", USABLE_ROOTS)
def test_a_root_that_openssl_makes_with_these_options_is_used(tmp_path, kind):
    TrustStore([req(tmp_path, *USABLE_ROOTS[kind])])


@pytest.mark.parametrize("kind", BAD_ROOTS)
def test_a_root_that_can_never_validate_is_an_error(tmp_path, kind):
    options, expected = BAD_ROOTS[kind]
    check_bad_root(tmp_path / "old.pem", req(tmp_path, *options).read_bytes(), expected)


# Whether OpenSSL makes such a root with `openssl req -x509` depends on its release.
@pytest.mark.parametrize(
    ("der", "expected"),
    [
        (version_1(CERTIFICATE), "version 1"),
        (without_key_identifier(CERTIFICATE, KEY), "without subjectKeyIdentifier"),
    ],
    ids=["version 1", "no key identifier"],
)
def test_a_root_of_an_old_openssl_that_can_never_validate_is_an_error(tmp_path, der, expected):
    check_bad_root(tmp_path / "old.pem", pem(der), expected)


def check_bad_root(path: Path, root: bytes, expected: str) -> None:
    path.write_bytes(PEM + root)
    with pytest.raises(ConfigurationError, match=rf"old\.pem: certificate 2 of 2 can never .*{expected}") as error:
        TrustStore([path])
    assert "-clrext -signkey ca.key" in str(error.value)


def test_the_command_for_a_bad_root_keeps_its_clients(tmp_path):
    path = req(tmp_path, *BAD_ROOTS["not critical"][0])
    with pytest.raises(ConfigurationError) as error:
        TrustStore([path])
    command = re.search("`(.*)`", str(error.value))
    assert command is not None
    (tmp_path / "root.ext").write_text(
        "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign,cRLSign\nsubjectKeyIdentifier=hash\n"
    )
    subprocess.run(["/bin/sh", "-ec", command[1]], cwd=tmp_path, check=True, capture_output=True)
    before, after = (
        x509.load_pem_x509_certificate((tmp_path / each).read_bytes()) for each in ("old.pem", "converted.pem")
    )
    assert (before.subject, before.public_key()) == (after.subject, after.public_key())
    TrustStore([tmp_path / "converted.pem"])


def test_a_leaf_of_version_1_is_a_leaf_and_no_root_to_issue_again(tmp_path):
    (tmp_path / "x.pem").write_bytes(pem(version_1(CLIENT.x509)))
    with pytest.raises(ConfigurationError, match=r"version 1.*it is a leaf, not a root"):
        TrustStore([tmp_path / "x.pem"])


def test_issued_by_names_the_kind_of_its_file_too(tmp_path):
    (tmp_path / "ca.der").write_bytes(DER)
    with pytest.raises(ConfigurationError, match=r"IssuedBy\('.*ca\.der'\): .*openssl x509 -inform DER"):
        IssuedBy(tmp_path / "ca.der")


def test_a_changed_file_with_a_bad_root_keeps_its_old_contents(tmp_path, caplog):
    path = tmp_path / "ca.pem"
    path.write_bytes(PEM)
    store = TrustStore([path])
    path.write_bytes(PEM + CLIENT.pem.encode())
    os.utime(path, (1, 1))
    assert reasons(store, CLIENT, NOW) == ()
    assert "certificate 2 of 2 can never validate a client" in caplog.text
    assert "last good contents stay in use" in caplog.text


def test_intermediates_may_be_of_any_kind(tmp_path):
    (tmp_path / "i.pem").write_text(CLIENT.pem)
    assert reasons(TrustStore([CERTIFICATE], intermediates=[tmp_path / "i.pem"]), CLIENT, NOW) == ()
