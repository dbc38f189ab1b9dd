"""Finds the reasons why a trusted root can never validate a certificate, or why a trust store rejects a leaf.

`profile.py` has the rules of this library. To find out the rules of `cryptography`, this module lets `cryptography`
verify a leaf with a root that has the issuer's name and a different key. `cryptography` checks both certificates before
the signature.
"""

import shlex
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from functools import cache

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509 import verification

from mtls_middleware import parser_errors
from mtls_middleware.validation import profile

_REISSUE = (
    "issue the root again with the same key, so that the certificates that it issued stay valid: `openssl x509 -in "
    "{file} -clrext -signkey ca.key -days 3650 -extfile root.ext -out converted.pem`, with the lines "
    "basicConstraints=critical,CA:TRUE, keyUsage=critical,keyCertSign,cRLSign and subjectKeyIdentifier=hash in root.ext"
)
_ISSUER = "give the certificate of the CA that issued it; `openssl x509 -in {file} -noout -issuer` prints the name"
_NEW_KEY = "create a root with an RSA key of at least 2048 bits, or an EC key on P-256, P-384 or P-521"
_NOT_A_CA = "an issuer that is not a CA"
_VERSION_1 = (
    "`openssl x509 -req` makes version 1 without `-extfile`; with it, and the lines subjectKeyIdentifier=hash, "
    "authorityKeyIdentifier=keyid and extendedKeyUsage=clientAuth, it makes version 3"
)


def authority_policy() -> verification.ExtensionPolicy:
    """Return the profile by which `cryptography` checks the extensions of CAs.

    It is the default profile, with two exceptions: a CA may lack keyUsage, because `openssl req -x509` omits it, and
    `profile.py` checks the extended key usage of CAs.
    """
    either = verification.Criticality.AGNOSTIC
    return (
        verification.ExtensionPolicy.webpki_defaults_ca()
        .may_be_present(x509.KeyUsage, either, None)
        .may_be_present(x509.ExtendedKeyUsage, either, None)
    )


def defect(root: x509.Certificate, purpose: x509.ObjectIdentifier, file: str = "ca.pem") -> str | None:
    """Return why this root can never validate a client, and what to do; `None` if it can validate a client.

    Arguments: `purpose`, the required extended key usage; `file`, the name of the root's file in the command.

    Example: `defect(certificate, ExtendedKeyUsageOID.CLIENT_AUTH)`
    """
    try:
        found = list(dict.fromkeys(_reasons(root, purpose)))
    except parser_errors.UNREADABLE as error:
        return f"cannot be read: {parser_errors.reason(error)}; ask its CA for another one"
    if not found:
        return None
    return f"can never validate a client ({'; '.join(found)}): {_advice(root, found).replace('{file}', file)}"


def require_usable(roots: Sequence[x509.Certificate], purpose: x509.ObjectIdentifier, file: str) -> None:
    """Raises `ValueError` with the position of the first root of a file that can never validate a certificate."""
    for number, root in enumerate(roots, 1):
        found = defect(root, purpose, shlex.quote(file))
        if found is not None:
            raise ValueError(f"certificate {number} of {len(roots)} {found}")


def objections(leaf: x509.Certificate, purpose: x509.ObjectIdentifier) -> list[str]:
    """Return the reasons why a trust store would reject a client's certificate or a CA certificate.

    The issuer, the signature and the time are not checked. Example: `objections(certificate.x509, CLIENT_AUTH)`
    """
    basic = profile.extension(leaf, x509.BasicConstraints)
    if basic is not None and basic.value.ca:
        return [*dict.fromkeys(_reasons(leaf, purpose))]
    if leaf.version is not x509.Version.v3:
        return [f"X.509 version {leaf.version.value + 1}, expected version 3", _VERSION_1]
    found = list(profile.client_defects(profile.CertificateContents(leaf), purpose, require_purpose=False))
    engine = _engine_reason(_root_of(leaf), leaf)
    return found if engine is None else [*found, engine]


def _reasons(root: x509.Certificate, purpose: x509.ObjectIdentifier) -> Iterator[str]:
    if root.version is not x509.Version.v3:
        yield f"X.509 version {root.version.value + 1}, expected version 3"
        return
    basic = profile.extension(root, x509.BasicConstraints)
    if basic is None:
        yield "no basicConstraints"
    elif not basic.critical:
        yield "basicConstraints is not critical"
    found = list(profile.authority_defects(root, purpose, is_anchor=True))
    yield from found
    is_clear = not found and basic is not None and basic.critical
    engine = _engine_reason(root, _leaf_of(root)) if is_clear else None
    if engine is not None:
        yield engine


def _advice(root: x509.Certificate, reasons: list[str]) -> str:
    is_self_issued = root.subject == root.issuer
    if (_NOT_A_CA in reasons or root.version is not x509.Version.v3) and not is_self_issued:
        return "it is a leaf, not a root: " + _ISSUER
    if _NOT_A_CA in reasons and profile.extension(root, x509.BasicConstraints) is not None:
        return "it is a leaf, not a root, and self-signed: to allow only this client, use the rule policy.Thumbprint"
    if any(" key" in each and "keyUsage" not in each for each in reasons):
        return _NEW_KEY
    return _REISSUE


def _engine_reason(root: x509.Certificate, leaf: x509.Certificate) -> str | None:
    """Return the reason why `cryptography` never finds a path from the leaf to the root, or `None`.

    One of the two certificates is examined, and the other is created for this check, so the verification always fails.
    Without a defect, the failure is the expected failure.
    """
    found = _failure(root, leaf)
    return None if found == _expected_failure() else found


@cache
def _expected_failure() -> str:
    """Return the message of this release of `cryptography` for a good root with a different key."""
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "root")])
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime(2020, 1, 1, tzinfo=UTC)
    root = (
        _issued(name, name, now, key)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return _failure(root, _leaf_of(root))


def _failure(root: x509.Certificate, leaf: x509.Certificate) -> str:
    verifier = (
        verification.PolicyBuilder()
        .store(verification.Store([root]))
        .time(max(root.not_valid_before_utc, leaf.not_valid_before_utc))
        .extension_policies(ca_policy=authority_policy(), ee_policy=verification.ExtensionPolicy.permit_all())
        .build_client_verifier()
    )
    try:
        verifier.verify(leaf, [])
    except verification.VerificationError as error:
        reason = str(error).partition(" (encountered")[0].rpartition("candidates exhausted: ")[2]
        return reason.removeprefix("validation failed: ")[:200]
    return ""


def _leaf_of(root: x509.Certificate) -> x509.Certificate:
    """Return a leaf that names `root` as its issuer, and that a different key has signed."""
    return _made(x509.Name([]), root.subject, root).sign(_key(), hashes.SHA256())


def _root_of(leaf: x509.Certificate) -> x509.Certificate:
    """Return a root with the name of the leaf's issuer and a different key."""
    key_identifier = x509.SubjectKeyIdentifier.from_public_key(_key().public_key())
    return (
        _made(leaf.issuer, leaf.issuer, leaf)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(key_identifier, critical=False)
        .sign(_key(), hashes.SHA256())
    )


def _made(subject: x509.Name, issuer: x509.Name, other: x509.Certificate) -> x509.CertificateBuilder:
    """Return the builder of a certificate that is valid at the beginning of the validity period of `other`."""
    return _issued(subject, issuer, other.not_valid_before_utc, _key())


def _issued(
    subject: x509.Name, issuer: x509.Name, begins: datetime, key: ec.EllipticCurvePrivateKey
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(begins)
        .not_valid_after(begins + timedelta(seconds=1))
    )


@cache
def _key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())
