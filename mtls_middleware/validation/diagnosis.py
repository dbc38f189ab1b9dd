"""Explains why no valid path leads from a certificate to a trusted root, for the log and the command line.

This module decides nothing: `cryptography` and `chain.py` decide. The number of signature checks is limited.
"""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

from cryptography import x509
from cryptography.exceptions import InvalidSignature

from mtls_middleware import parser_errors
from mtls_middleware.messages import short_list
from mtls_middleware.names import distinguished
from mtls_middleware.validation import profile
from mtls_middleware.validity import RENEW, outside

# Maximum number of CAs that a log record shows.
_MAX_SHOWN = 5
# Maximum number of signatures that one diagnosis verifies. Usual paths have two or three.
_MAX_SIGNATURES = 16
_EXPIRED, _NOT_YET_VALID = "expired: ", "not yet valid: "
MISSING_ISSUER = (
    "if the client's CA is one of yours, add its certificate to the trust store, or let the client send the "
    "intermediate CA; `openssl x509 -in ca.pem -noout -ext subjectKeyIdentifier` prints the key identifier of a CA"
)
OTHER_SPELLING = (
    "let the CA issue its own certificate again with the name exactly as in the certificates that it issues, with the "
    "same string types; `openssl x509 -nameopt multiline,show_type -noout -issuer -subject` prints the types"
)


class Fault(NamedTuple):
    """One reason why a path is not valid.

    Attributes:
        position: the certificate in the path; 0 is the client's certificate.
        reason: the reason for the log, without names that a client chose.
        advice: what the operator can do, or `None`.
    """

    position: int
    reason: str
    advice: str | None = None


class Diagnosis(NamedTuple):
    """The longest path by names and signatures, and its faults. Faults near the client's certificate come first.

    `is_complete`: whether the path leads to a trusted root.
    """

    path: tuple[x509.Certificate, ...]
    faults: tuple[Fault, ...]
    is_complete: bool

    @property
    def reasons(self) -> tuple[str, ...]:
        """The reasons for the log, with the position in the path."""
        return tuple(place(each.position) + each.reason for each in self.faults)

    @property
    def advice(self) -> str | None:
        return next((each.advice for each in self.faults if each.advice is not None), None)


class Authorities(NamedTuple):
    """The known CAs: the trusted roots, and all other CAs, configured or presented."""

    roots: Sequence[x509.Certificate]
    others: Sequence[x509.Certificate]


def diagnose(
    leaf: x509.Certificate,
    known: Authorities,
    purpose: x509.ObjectIdentifier,
    *,
    now: float,
    leeway: float,
    max_depth: int,
) -> Diagnosis:
    """Return the longest path from `leaf`, and the faults of this path.

    Arguments:
        purpose: the required extended key usage.
        now: seconds since the epoch.
        leeway: tolerance in seconds at both ends of each validity period.
        max_depth: maximum number of certificates between leaf and root.

    Raises the exceptions of `parser_errors.UNREADABLE` for unreadable certificates.
    """
    path, end = _walk(leaf, known, now, max_depth)
    faults: list[Fault] = []
    for position, certificate in enumerate(path):
        is_anchor = certificate in known.roots
        defects = [] if position == 0 else list(profile.authority_defects(certificate, purpose, is_anchor=is_anchor))
        reasons = [*_own_faults(certificate, is_anchor, now, leeway), *defects, *_depth_faults(path, position)]
        faults += [Fault(position, reason, _advice(reason)) for reason in dict.fromkeys(reasons)]
    return Diagnosis(path, tuple(sorted([*faults, *([] if end is None else [end])], key=_position)), end is None)


def _advice(reason: str) -> str | None:
    return RENEW if reason.startswith((_EXPIRED, _NOT_YET_VALID)) else None


def _position(fault: Fault) -> int:
    return fault.position


def place(position: int) -> str:
    """Return the beginning of a reason for the log. It names the certificate of the path."""
    return "" if position == 0 else f"CA {position} above the client's certificate: "


def _walk(
    leaf: x509.Certificate, known: Authorities, now: float, max_depth: int
) -> tuple[tuple[x509.Certificate, ...], Fault | None]:
    """Return the longest path, and the reason why it ends. The reason is `None` if the path ends at a trusted root."""
    path, signatures = [leaf], _MAX_SIGNATURES
    while path[-1] not in known.roots:
        current, position = path[-1], len(path) - 1
        if position > max_depth:
            return tuple(path), Fault(position, f"the path is too long: more than max_depth={max_depth} intermediates")
        candidates = [
            each
            for each in (*known.roots, *known.others)
            if each.subject.public_bytes() == current.issuer.public_bytes() and each not in path
        ]
        if not candidates:
            return tuple(path), _missing(current, position, known)
        candidates = sorted(candidates, key=lambda each: not _is_valid_at(each, now))[:signatures]
        signatures -= len(candidates)
        issuer = next((each for each in candidates if _has_signed(each, current)), None)
        if issuer is None:
            return tuple(path), _unsigned(current, position, candidates)
        path.append(issuer)
    return tuple(path), None


def _is_valid_at(certificate: x509.Certificate, now: float) -> bool:
    return certificate.not_valid_before_utc.timestamp() <= now <= certificate.not_valid_after_utc.timestamp()


def _has_signed(issuer: x509.Certificate, certificate: x509.Certificate) -> bool:
    """Return whether the issuer has signed the certificate, or may have done so with an unsupported algorithm."""
    try:
        certificate.verify_directly_issued_by(issuer)
    except InvalidSignature:
        return False
    except parser_errors.UNREADABLE:
        return _weak_signature(certificate) is not None
    return True


def _unsigned(certificate: x509.Certificate, position: int, candidates: Sequence[x509.Certificate]) -> Fault:
    which = _key_identifier(certificate)
    if not candidates:
        return Fault(
            position, f"unknown issuer: the diagnosis ends here, because it has verified {_MAX_SIGNATURES} signatures"
        )
    found = short_list([_subject_key_identifier(each) for each in candidates], _MAX_SHOWN)
    return Fault(
        position,
        f"unknown issuer: the CA with the name of the issuer has another key, so that the signature does not match; "
        f"expected: the CA {which}; found: {found}",
        "a CA with the same name and another key has issued this certificate, for example before its key was renewed: "
        "add the other certificate of this CA to the trust store, if it is yours",
    )


def _missing(certificate: x509.Certificate, position: int, known: Authorities) -> Fault:
    authorities = (*known.roots, *known.others)
    roots = _names(known.roots)
    if certificate.subject == certificate.issuer:
        what = "unknown issuer: the certificate is self-signed, and not a root of the trust store"
        return Fault(position, f"{what}; the trust store has: {roots}", MISSING_ISSUER)
    if any(_is_same_name(each.subject, certificate.issuer) for each in authorities):
        return Fault(
            position,
            "issuer spelt differently: a known CA has the same name by RFC 5280 7.1, but with another string type, "
            "case or spaces; `cryptography` compares the encoded names",
            OTHER_SPELLING,
        )
    which = f"the CA {_key_identifier(certificate)} is missing; the trust store has: {roots}"
    if _is_below_known(certificate, known):
        return Fault(position, f"missing intermediate: {which}", MISSING_ISSUER)
    return Fault(position, f"unknown issuer, or missing intermediate: {which}", MISSING_ISSUER)


def _is_below_known(certificate: x509.Certificate, known: Authorities) -> bool:
    """Return whether the authorityKeyIdentifier says that a known CA issued the missing CA (RFC 5280 4.2.1.1)."""
    identifier = profile.extension(certificate, x509.AuthorityKeyIdentifier)
    names = () if identifier is None else identifier.value.authority_cert_issuer or ()
    above = [each.value for each in names if isinstance(each, x509.DirectoryName)]
    return any(each.subject in above for each in (*known.roots, *known.others))


def _names(authorities: Sequence[x509.Certificate]) -> str:
    shown = [distinguished.to_string(each.subject) for each in authorities[:_MAX_SHOWN]]
    return short_list([*shown, *[""] * (len(authorities) - len(shown))], _MAX_SHOWN)


def _is_same_name(one: x509.Name, other: x509.Name) -> bool:
    return _comparison_key(one) == _comparison_key(other)


# The names of a store's CAs are compared for each failure. A large store has a few hundred CAs.
_comparison_key = lru_cache(maxsize=512)(distinguished.comparison_key)


def _key_identifier(certificate: x509.Certificate) -> str:
    identifier = profile.extension(certificate, x509.AuthorityKeyIdentifier)
    key = None if identifier is None else identifier.value.key_identifier
    return "without key identifier" if key is None else f"with the key identifier {key[:32].hex(':')}"


def _subject_key_identifier(authority: x509.Certificate) -> str:
    found = profile.extension(authority, x509.SubjectKeyIdentifier)
    return "no key identifier" if found is None else found.value.digest[:32].hex(":")


def _own_faults(certificate: x509.Certificate, is_anchor: bool, now: float, leeway: float) -> Iterator[str]:
    period = certificate.not_valid_before_utc.timestamp(), certificate.not_valid_after_utc.timestamp()
    if not period[0] - leeway <= now <= period[1] + leeway:
        yield (_EXPIRED if now > period[1] else _NOT_YET_VALID) + outside(period, now, leeway)[0]
    if certificate.version is not x509.Version.v3:
        yield f"X.509 version {certificate.version.value + 1}, expected version 3"
    weak = None if is_anchor else _weak_signature(certificate)
    if weak is not None:
        yield weak


def _weak_signature(certificate: x509.Certificate) -> str | None:
    """Return why the algorithm of the signature is not accepted, or `None` if it is accepted."""
    oid = certificate.signature_algorithm_oid
    try:
        algorithm = certificate.signature_hash_algorithm
    except parser_errors.UNREADABLE:
        algorithm = None
    if isinstance(algorithm, profile.HASHES):
        return None
    name = oid._name if algorithm is None else algorithm.name
    return (
        f"weak signature or unsupported algorithm: {name} ({oid.dotted_string}); expected SHA-256, SHA-384 or SHA-512"
    )


def _depth_faults(path: Sequence[x509.Certificate], position: int) -> Iterator[str]:
    """Yield the faults of basicConstraints of a CA (RFC 5280 4.2.1.9)."""
    basic = profile.extension(path[position], x509.BasicConstraints) if position else None
    if basic is None:
        return
    if not basic.critical:
        yield "basicConstraints is not critical"
    below = sum(each.subject != each.issuer for each in path[1:position])
    if basic.value.path_length is not None and below > basic.value.path_length:
        yield f"the path length: {below} CAs are below it, and basicConstraints allows {basic.value.path_length}"
