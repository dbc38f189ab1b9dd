"""The results of rustls-webpki, from the program in `tests/chains/webpki_verdicts`.

The program verifies no signatures by itself. It gets a table of all valid signatures, so that it needs no cryptography.
"""

import itertools
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID

from tests.chains.drafts import NOW
from tests.chains.explanations import Differs, lists_naming, replaces
from tests.chains.ours import Built, Result, lists_of


class WebPKI:
    """A process of the program. `path`: the program."""

    def __init__(self, path: Path) -> None:
        self._process = subprocess.Popen([path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._process.communicate()

    def verify(
        self,
        roots: Sequence[x509.Certificate],
        between: Sequence[x509.Certificate],
        lists: Sequence[bytes],
        leaves: Sequence[x509.Certificate],
        now: int,
    ) -> list[str]:
        """Return for each leaf `"ok"`, or the name of the error."""
        lines = [f"{kind} {octets.hex()}" for kind, each in (("root", roots), ("ca", between)) for octets in _der(each)]
        lines += [f"crl {each.hex()}" for each in lists]
        lines += [f"leaf {octets.hex()}" for octets in _der(leaves)]
        lines += _signatures([*roots, *between], [*leaves, *between, *map(x509.load_der_x509_crl, lists)])
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write("\n".join([*lines, f"run {now}\n"]))
        self._process.stdin.flush()
        return self._process.stdout.readline().strip("\n").split("\t")


def explain(process: WebPKI, own: Result, built: Built) -> str:
    """Return the result for a chain that this library accepts.

    Raises `Differs` if rustls-webpki rejects it for a reason that is not known.
    """
    leaf, *between, root = own.path
    (whole,) = process.verify(built.roots, built.between, built.lists, [leaf], NOW)
    if whole == "ok":
        return "rustls-webpki accepts what is accepted here"
    # It gets only the path that was found here, and the lists of its CAs.
    lists = lists_of(own, built)
    (result,) = process.verify([root], between, lists, [leaf], NOW)
    if result == "ok":
        return "rustls-webpki tries another path or list"
    return f"rustls-webpki rejects: {_reason(result, own.path, lists)}"


def _reason(result: str, path: Sequence[x509.Certificate], encoded: Sequence[bytes]) -> str:
    """Return the explanation of an error. docs/validation.md has each of them."""
    lists = [x509.load_der_x509_crl(each) for each in encoded]
    subjects = {each.subject.public_bytes() for each in path[1:]}
    extensions = [each for certificate in path for each in certificate.extensions]
    # The beginning of the error, a condition without which the explanation is wrong, and the explanation.
    known = (
        (
            "UnknownRevocationStatus",
            any(each.issuer.public_bytes() not in subjects for each in lists),
            "a list with another spelling of the issuer's name",
        ),
        (
            "UnknownRevocationStatus",
            any(map(_has_limited_point, extensions)),
            "a certificate with a distribution point for some reasons or of another issuer",
        ),
        (
            "CrlExpired",
            any(each.next_update_utc is not None and each.next_update_utc.timestamp() > NOW for each in lists),
            "an expired list beside a valid one",
        ),
        ("CertRevoked", _are_released(path, encoded), "a certificate that is only on an older list"),
        (
            "list UnsupportedCrlIssuingDistributionPoint",
            True,
            "a list only for clients or only for CAs, without a distribution point",
        ),
        (
            "NameConstraintViolation",
            any(map(_has_other_subtrees, extensions)),
            "a constraint on names other than DNS names and addresses",
        ),
        ("RequiredEkuNotFound", any(map(_is_for_any_purpose, extensions)), "a CA for any purpose"),
        ("InvalidSignatureForPublicKey", len(subjects) < len(path) - 1, "two keys of one name in a path"),
        ("InvalidCrlSignatureForPublicKey", len(subjects) < len(path) - 1, "two keys of one name in a path"),
    )
    for error, condition, explanation in known:
        if result.startswith(error) and condition:
            return explanation
    raise Differs(f"ACCEPTED HERE, and rejected by rustls-webpki: {result}")


def _are_released(path: Sequence[x509.Certificate], encoded: Sequence[bytes]) -> bool:
    for certificate, issuer in itertools.pairwise(path):
        naming, successors = lists_naming(certificate, issuer, encoded)
        if not all(any(replaces(new, old) for new in successors) for old in naming):
            return False
    return True


def _has_limited_point(extension: x509.Extension[x509.ExtensionType]) -> bool:
    value = extension.value
    return isinstance(value, x509.CRLDistributionPoints) and any(each.reasons or each.crl_issuer for each in value)


def _has_other_subtrees(extension: x509.Extension[x509.ExtensionType]) -> bool:
    value = extension.value
    if not isinstance(value, x509.NameConstraints):
        return False
    subtrees = [*(value.permitted_subtrees or ()), *(value.excluded_subtrees or ())]
    return not all(isinstance(each, (x509.DNSName, x509.IPAddress)) for each in subtrees)


def _is_for_any_purpose(extension: x509.Extension[x509.ExtensionType]) -> bool:
    value = extension.value
    return isinstance(value, x509.ExtendedKeyUsage) and ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE in value


def _der(certificates: Sequence[x509.Certificate]) -> list[bytes]:
    return [each.public_bytes(Encoding.DER) for each in certificates]


def _signatures(
    issuers: Sequence[x509.Certificate], signed: Sequence[x509.Certificate | x509.CertificateRevocationList]
) -> list[str]:
    found = set()
    for issuer, each in itertools.product(issuers, signed):
        key = issuer.public_key()
        assert isinstance(key, ec.EllipticCurvePublicKey)
        data = each.tbs_certificate_bytes if isinstance(each, x509.Certificate) else each.tbs_certlist_bytes
        try:
            key.verify(each.signature, data, ec.ECDSA(hashes.SHA256()))
        except InvalidSignature:
            continue
        point = key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
        found.add(f"sig {point.hex()} {data.hex()} {each.signature.hex()}")
    return sorted(found)
