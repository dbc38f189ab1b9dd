"""DER of OCSP responses that no builder makes: several statuses, critical extensions, other algorithms."""

import time

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from tests.validation.authority import _tlv as tlv

CRITICAL = bytes.fromhex("0101ff")
ECDSA_SHA256 = tlv(0x30, bytes.fromhex("06082a8648ce3d040302"))
RSA_SHA256 = tlv(0x30, bytes.fromhex("06092a864886f70d01010b0500"))
RSA_PSS = tlv(0x30, bytes.fromhex("06092a864886f70d01010a") + tlv(0x30, b""))  # the default parameters, with SHA-1
BASIC = bytes.fromhex("06092b0601050507300101")  # id-pkix-ocsp-basic
GOOD_DER, UNKNOWN_DER = b"\x80\x00", b"\x82\x00"


def generalized(moment):
    return tlv(0x18, time.strftime("%Y%m%d%H%M%SZ", time.gmtime(moment)).encode())


def revoked(moment):
    return tlv(0xA1, generalized(moment))


def extension(critical):
    return tlv(0x30, bytes.fromhex("06032a0304") + (CRITICAL if critical else b"") + tlv(4, b"\x05\x00"))


def single(request, *, now, status=GOOD_DER, serial=None, extensions=b"", begins=-60, ends=3600):
    """A SingleResponse to an `OCSPRequest` of this library.

    `status`: the DER of certStatus. `begins` and `ends`: in seconds from `now`; without nextUpdate if `ends` is `None`.
    """
    number = request.serial if serial is None else serial
    algorithm = tlv(0x30, bytes.fromhex("06052b0e03021a0500"))  # SHA-1
    hashed = tlv(4, request.name_hash) + tlv(4, request.key_hash)
    cert_id = tlv(0x30, algorithm + hashed + tlv(2, number.to_bytes(number.bit_length() // 8 + 1, "big")))
    times = generalized(now + begins) + (b"" if ends is None else tlv(0xA0, generalized(now + ends)))
    return tlv(0x30, cert_id + status + times + (tlv(0xA1, tlv(0x30, extensions)) if extensions else b""))


def ecdsa(key):
    """A function that signs bytes with this key and SHA-256."""
    return lambda signed: key.sign(signed, ec.ECDSA(hashes.SHA256()))


def response(
    ca,
    *singles,
    now,
    produced=None,
    responder=None,
    extensions=b"",
    certificates=b"",
    key_hash=None,
    algorithm=ECDSA_SHA256,
    sign=None,
):
    """A response of `ca`. `sign`: signs bytes; by default, `ca` does.

    `produced`: the DER of producedAt; by default `now`. `responder`: the DER of responderID; by default by `key_hash`.
    """
    key_hash = key_hash or x509.SubjectKeyIdentifier.from_public_key(ca.certificate.public_key()).digest
    signed = tlv(
        0x30,
        (responder or tlv(0xA2, tlv(4, key_hash)))
        + (produced or generalized(now))
        + tlv(0x30, b"".join(singles))
        + (tlv(0xA1, tlv(0x30, extensions)) if extensions else b""),
    )
    signature = tlv(3, b"\0" + (sign or ecdsa(ca.key))(signed))
    included = tlv(0xA0, tlv(0x30, certificates)) if certificates else b""
    return successful(tlv(0x30, signed + algorithm + signature + included))


def successful(basic, kind=BASIC):
    """An OCSPResponse with the status successful around a BasicOCSPResponse."""
    return tlv(0x30, tlv(10, b"\0") + tlv(0xA0, tlv(0x30, kind + tlv(4, basic))))
