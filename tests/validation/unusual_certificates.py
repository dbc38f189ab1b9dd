"""Certificates and authorities that the throwaway CA of `mtls_middleware.testing` would not make."""

from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from mtls_middleware.certificate import ClientCertificate
from mtls_middleware.der import header, read_header, read_values

SHA256 = hashes.SHA256()
RSA_1024 = rsa.generate_private_key(65537, 1024)
RSA_E3 = rsa.generate_private_key(3, 2048)


def usage(*names):
    every = (
        "digital_signature content_commitment key_encipherment data_encipherment key_agreement key_cert_sign crl_sign "
        "encipher_only decipher_only"
    )
    return x509.KeyUsage(**{name: name in names for name in every.split()})


def signed(ca, key, digest=SHA256, *, scheme=None):
    """A client's certificate with what the throwaway CA would not sign; `digest=None` for an Edwards key of `ca`."""
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name.from_rfc4514_string("CN=client"))
        .issuer_name(ca.certificate.subject)
        .public_key(key.public_key())
        .serial_number(7)
        .not_valid_before(datetime.now(UTC) - timedelta(days=1))
        .not_valid_after(datetime.now(UTC) + timedelta(days=1))
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(ca.key.public_key()), critical=False)
    )
    return ClientCertificate.from_der(builder.sign(ca.key, digest, rsa_padding=scheme).public_bytes(Encoding.DER))


def version_1(certificate):
    """The DER of a certificate without version and extensions, as old OpenSSL makes it. Its signature is wrong."""
    tbs, der = certificate.tbs_certificate_bytes, certificate.public_bytes(Encoding.DER)
    start, _ = read_header(tbs)
    members = list(read_values(tbs[start:]))
    content = b"".join(header(tag, len(value)) + value for tag, value in members if tag not in (0xA0, 0xA3))
    body = header(0x30, len(content)) + content + der[der.index(tbs) + len(tbs) :]
    return header(0x30, len(body)) + body


def without_key_identifier(certificate, key):
    """The DER of a self-signed CA without subjectKeyIdentifier, with the name and dates of `certificate`."""
    return (
        x509.CertificateBuilder()
        .subject_name(certificate.subject)
        .issuer_name(certificate.subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(certificate.not_valid_before_utc)
        .not_valid_after(certificate.not_valid_after_utc)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, SHA256)
        .public_bytes(Encoding.DER)
    )


class Authority:
    """A root with a key of our choice."""

    def __init__(self, key, digest=SHA256):
        self.key = key
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Own CA")])
        self.certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(1)
            .not_valid_before(datetime.now(UTC) - timedelta(days=1))
            .not_valid_after(datetime.now(UTC) + timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .sign(key, digest)
        )


def signed_as_ca(key, like):
    """A self-signed CA certificate of this key, with the name and the dates of `like`."""
    return (
        x509.CertificateBuilder()
        .subject_name(like.subject)
        .issuer_name(like.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(like.not_valid_before_utc)
        .not_valid_after(like.not_valid_after_utc)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, SHA256)
    )


def cross_signed(authority, issuer, begins, ends):
    """The name and key of one CA in a certificate of another issuer; `begins`, `ends`: aware datetimes."""
    found = authority.certificate
    builder = (
        x509.CertificateBuilder()
        .subject_name(found.subject)
        .issuer_name(issuer.certificate.subject)
        .public_key(found.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins)
        .not_valid_after(ends)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.key.public_key()), critical=False)
    )
    for each in found.extensions:
        if each.oid != x509.AuthorityKeyIdentifier.oid:
            builder = builder.add_extension(each.value, each.critical)
    return builder.sign(issuer.key, SHA256)
