"""Estimates the memory that a parsed certificate needs, for the budget of the caches."""

# A usual certificate, with an RSA key of 4096 bits and a few names: its size in bytes, and how many of its bytes are
# tags of an attribute type or of an alternative name.
_USUAL_DER = 2_000
_ATTRIBUTE_TYPE, _USUAL_ATTRIBUTES = b"\x06", 40
_ALTERNATIVES, _USUAL_ALTERNATIVES = (b"\x81", b"\x82", b"\x86", b"\x87"), 40


def extra_bytes(der: bytes) -> int:
    """Return the number of bytes of memory that this certificate needs in addition to a certificate of usual size.

    The memory includes the parsed names, which need about fifty times as much memory as their DER. The number of names
    is estimated by the bytes that are tags of an attribute type or of an alternative name (X.690). Such bytes also
    occur by chance in keys and signatures.
    """
    by_chance = len(der) // 128
    attributes = der.count(_ATTRIBUTE_TYPE) - by_chance - _USUAL_ATTRIBUTES
    alternatives = sum(map(der.count, _ALTERNATIVES)) - len(_ALTERNATIVES) * by_chance - _USUAL_ALTERNATIVES
    names = max(0, attributes) + max(0, alternatives)
    return 50 * max(0, len(der) - _USUAL_DER) + 400 * names
