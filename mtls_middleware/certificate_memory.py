"""Estimates the memory that a parsed certificate needs, for the budget of the caches."""

# The size in bytes of a usual certificate, which has an RSA key of 4096 bits and a few names. For attribute types and
# for alternative names: the bytes that are their tags, and how many such bytes a usual certificate contains.
_USUAL_DER = 2_000
_ATTRIBUTE_TYPE, _USUAL_ATTRIBUTES = b"\x06", 40
_ALTERNATIVES, _USUAL_ALTERNATIVES = b"\x81\x82\x86\x87", 40


def extra_bytes(der: bytes) -> int:
    """Return the number of bytes of memory that this certificate needs in addition to a certificate of usual size.

    The memory includes the parsed names, which need about fifty times as much memory as their DER. The number of names
    is estimated by the bytes that are tags of an attribute type or of an alternative name (X.690). Such bytes also
    occur by chance in keys and signatures.
    """
    by_chance = len(der) // 128
    if len(der) <= _USUAL_DER and _count(der, _ATTRIBUTE_TYPE + _ALTERNATIVES) <= by_chance + _USUAL_ATTRIBUTES:
        return 0  # most certificates
    attributes = _count(der, _ATTRIBUTE_TYPE) - by_chance - _USUAL_ATTRIBUTES
    alternatives = _count(der, _ALTERNATIVES) - len(_ALTERNATIVES) * by_chance - _USUAL_ALTERNATIVES
    names = max(0, attributes) + max(0, alternatives)
    return 50 * max(0, len(der) - _USUAL_DER) + 400 * names


def _count(der: bytes, tags: bytes) -> int:
    return len(der) - len(der.translate(None, tags))
