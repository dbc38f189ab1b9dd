"""One raw ES256 verification by `cryptography`: the unit that the layers' cost is told in."""

import base64

from cryptography.hazmat.primitives.asymmetric.ec import ECDSA
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256

from tests.benchmarks import stacks
from tests.benchmarks.loop import Subject


def verification() -> Subject:
    """The signature of an access token, as one would verify it with the least ado."""
    text = stacks.token()
    signed, _, encoded = text.rpartition(".")
    signature = base64.urlsafe_b64decode(encoded + "==")
    half = len(signature) // 2
    der = encode_dss_signature(int.from_bytes(signature[:half], "big"), int.from_bytes(signature[half:], "big"))
    key = next(reversed(stacks.issuer().access_tokens()._keys._keys.keys)).key
    message, scheme = signed.encode("ascii"), ECDSA(SHA256())
    return Subject(lambda _: key.verify(der, message, scheme), range)
