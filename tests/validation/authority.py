"""CRLs of a throwaway CA."""

from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

HOUR = 3600


def at(moment):
    return datetime.fromtimestamp(moment, UTC)


def crl(
    ca,
    revoked=(),
    *,
    now,
    begins=-HOUR,
    ends=HOUR,
    number=1,
    extensions=(),
    issuer=None,
    key=None,
    digest=None,
    entries=(),
):
    """DER of a list that `ca` signs; `begins` and `ends` in seconds from `now`."""
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(issuer or ca.certificate.subject)
        .last_update(at(now + begins))
        .next_update(at(now + ends))
    )
    if number is not None:
        builder = builder.add_extension(x509.CRLNumber(number), critical=False)
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical)
    for each in revoked:
        serial = each if isinstance(each, int) else each.x509.serial_number
        entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(at(now) - timedelta(hours=2))
        for extension, critical in entries:
            entry = entry.add_extension(extension, critical)
        builder = builder.add_revoked_certificate(entry.build())
    return builder.sign(key or ca.key, digest or hashes.SHA256()).public_bytes(Encoding.DER)


def long_crl(ca, serials, *, now):
    """The same for many serial numbers, octet by octet, since the builder's time grows with their square."""
    algorithm = _tlv(0x30, bytes.fromhex("06082a8648ce3d040302"))  # ecdsa-with-SHA256
    revoked = _utc_time(now - 2 * HOUR)
    entries = [_tlv(0x30, _integer(serial) + revoked) for serial in serials]
    number = _tlv(0x30, bytes.fromhex("0603551d14") + _tlv(4, _integer(1)))
    signed = _tlv(
        0x30,
        _integer(1)
        + algorithm
        + ca.certificate.subject.public_bytes()
        + _utc_time(now - HOUR)
        + _utc_time(now + HOUR)
        + _tlv(0x30, b"".join(entries))
        + _tlv(0xA0, _tlv(0x30, number)),
    )
    return _tlv(0x30, signed + algorithm + _tlv(3, b"\0" + ca.key.sign(signed, ec.ECDSA(hashes.SHA256()))))


def _tlv(tag, content):
    size = len(content)
    octets = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes([tag]) + (bytes([size]) if size < 128 else bytes([128 | len(octets)]) + octets) + content


def _integer(number):
    return _tlv(2, number.to_bytes(number.bit_length() // 8 + 1, "big"))


def _utc_time(moment):
    return _tlv(0x17, at(moment).strftime("%y%m%d%H%M%SZ").encode())
