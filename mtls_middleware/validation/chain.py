"""`Roots`: is there a path from a client certificate to one of these roots? RFC 5280 section 6.

Must never know: files, revocation, and addresses that a certificate names. `cryptography` builds and verifies the path
(row A20); what it leaves to its callers is in `profile.py` and `constraints.py`.
"""

from collections.abc import Sequence
from datetime import UTC, datetime

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import verification
from cryptography.x509.oid import ExtendedKeyUsageOID

from mtls_middleware.certificate import ClientCertificate
from mtls_middleware.errors import MalformedCertificate, Refused
from mtls_middleware.validation import constraints, profile

Path = tuple[x509.Certificate, ...]

# Certificates beside the leaf that a client may present. Two or three are usual; each costs look-ups and signatures.
MOST_PRESENTED = 10
# Names of one certificate that constraints are held against: row A34, the engine's own limit is far above.
_MOST_NAMES = 512

# How `cryptography`, or a name of ours, says that something in a certificate cannot be read.
UNREADABLE = (
    ValueError,
    TypeError,
    OverflowError,
    UnsupportedAlgorithm,
    x509.InvalidVersion,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
    MalformedCertificate,
)


class Roots:
    """Roots, the intermediates that are known beside them, and what is asked of a path. Immutable.

    Arguments:
        max_depth: certificates that may stand between leaf and root.
        purpose: the extended key usage that is asked for. Always `clientAuth`, save in a test suite made for servers.
    """

    def __init__(
        self,
        roots: Sequence[x509.Certificate],
        intermediates: Sequence[x509.Certificate],
        *,
        max_depth: int,
        require_client_auth_eku: bool,
        purpose: x509.ObjectIdentifier = ExtendedKeyUsageOID.CLIENT_AUTH,
    ) -> None:
        self._intermediates = list(intermediates)
        self._anchors = frozenset(each.public_bytes(Encoding.DER) for each in roots)
        self._authorities = [*roots, *intermediates]
        self._require_eku = require_client_auth_eku
        self._purpose = purpose
        # What a leaf must be is ours to say, all of it; a CA is held to the engine's profile too, save that row M2 has
        # a CA without keyUsage, as `openssl req -x509` makes it, and that the purpose is ours.
        either = verification.Criticality.AGNOSTIC
        authority = (
            verification.ExtensionPolicy.webpki_defaults_ca()
            .may_be_present(x509.KeyUsage, either, None)
            .may_be_present(x509.ExtendedKeyUsage, either, None)
        )
        self._policy = (
            verification.PolicyBuilder()
            .store(verification.Store(list(roots)))
            .max_chain_depth(max_depth)
            .extension_policies(ca_policy=authority, ee_policy=verification.ExtensionPolicy.permit_all())
        )

    def path(self, certificate: ClientCertificate, moment: float) -> Path:
        """Leaf to root, valid at `moment` (seconds since the epoch). Raises `Refused` with every reason."""
        if certificate.der in self._anchors:
            raise refused(certificate, "a root is no client")
        if len(certificate.chain) > MOST_PRESENTED:
            raise refused(certificate, f"more than {MOST_PRESENTED} certificates beside the leaf")
        try:
            reasons = list(profile.unfit_client(certificate.x509, self._purpose, require_purpose=self._require_eku))
            names = profile.extension(certificate.x509, x509.SubjectAlternativeName)
            if names is not None and len(list(names.value)) > _MOST_NAMES:
                raise refused(certificate, f"more than {_MOST_NAMES} names in one certificate")
            presented = self._proven([x509.load_der_x509_certificate(der) for der in certificate.chain])
            verifier = self._policy.time(datetime.fromtimestamp(int(moment), UTC)).build_client_verifier()
            path = tuple(verifier.verify(certificate.x509, [*presented, *self._intermediates]).chain)
            for authority in path[1:]:
                reasons += profile.unfit_authority(authority, self._purpose, is_anchor=authority is path[-1])
            reasons += constraints.violations(path)
        except verification.VerificationError as error:
            # What follows quotes the certificate's names, which are whoever made it to choose.
            raise refused(certificate, *reasons, str(error).partition(" (encountered")[0][:200]) from None
        except UNREADABLE as error:
            raise refused(certificate, f"a certificate of the path cannot be read ({type(error).__name__})") from None
        if reasons:
            raise refused(certificate, *dict.fromkeys(reasons))
        return path

    def _proven(self, presented: Sequence[x509.Certificate]) -> list[x509.Certificate]:
        """Those that a root, or another of them that is proven, has signed: the rest is no use, and could be a maze.

        So whoever has no CA of ours makes us check each signature at most once per issuer of that name (row A34).
        """
        proven: list[x509.Certificate] = []
        waiting = list(dict.fromkeys(presented))
        issuers = self._authorities
        while waiting and issuers:
            found = [each for each in waiting if any(_signed(each, issuer) for issuer in issuers)]
            waiting = [each for each in waiting if each not in found]
            proven += found
            issuers = found
        return proven


def refused(certificate: ClientCertificate, *reasons: str) -> Refused:
    """The refusal of a client certificate, `reasons` for the operator."""
    return Refused("client_certificate_refused", f"{certificate.thumbprint} does not validate", *reasons)


def _signed(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    if certificate.issuer != issuer.subject:
        return False
    try:
        certificate.verify_directly_issued_by(issuer)
    except (InvalidSignature, *UNREADABLE):
        return False
    return True
