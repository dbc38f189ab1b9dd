"""Limits the time for building a path: ignores CAs that a client presents if the search could take too long.

This module performs no I/O and reads no clock. No signature is verified here.
"""

from collections import Counter
from collections.abc import Sequence

from cryptography import x509
from cryptography.x509.oid import NameOID

from mtls_middleware.validation.profile import CertificateContents, extension

# Maximum number of signatures that a search may verify on all possible paths. The search takes exponential time in the
# depth (RFC 4158 section 2), and cryptography 46 has no limit: eight CAs with the same name that signed each other took
# 20 s. Three levels with two versions of each CA need 14 signatures.
_MAX_SIGNATURES = 32
# Maximum number of comparisons of a name with a name constraint, for example of 32 names with 4,096 constraints.
_MAX_COMPARISONS = 131_072


def affordable(
    leaf: x509.Certificate,
    presented: Sequence[x509.Certificate],
    *,
    roots: Sequence[x509.Certificate],
    intermediates: Sequence[x509.Certificate],
    constraints: int,
    depth: int,
) -> list[x509.Certificate]:
    """Return the CAs of `presented` with which a search stays within both limits of this module.

    Earlier CAs take precedence. `constraints`: the number of name constraints in the roots and the intermediates.
    `depth`: the maximum number of certificates between leaf and root.

    Raises the exceptions of `parser_errors.UNREADABLE` for unreadable certificates.
    """
    if not presented:
        return []
    links: list[tuple[x509.Name, x509.Name | None]] = [(each.subject, None) for each in roots]
    links += [(each.subject, each.issuer) for each in intermediates]
    names = sum(name_count(CertificateContents(each)) for each in (leaf, *intermediates))
    kept = []
    for each in presented:
        link = each.subject, each.issuer
        more_names = names + name_count(CertificateContents(each))
        more_constraints = constraints + constraint_count(each)
        if _signatures(leaf.issuer, [*links, link], depth) <= _MAX_SIGNATURES and is_affordable(
            more_names, more_constraints
        ):
            kept.append(each)
            links.append(link)
            names, constraints = more_names, more_constraints
    return kept


def name_count(contents: CertificateContents) -> int:
    """Return how many names are compared with name constraints: alternative names, and mailboxes in the subject."""
    names = contents.extensions.get(x509.SubjectAlternativeName.oid)
    mailboxes = contents.subject.get_attributes_for_oid(NameOID.EMAIL_ADDRESS)
    return (0 if names is None else len(names.value)) + len(mailboxes)


def constraint_count(certificate: x509.Certificate) -> int:
    """Return the number of name constraints of a CA."""
    found = extension(certificate, x509.NameConstraints)
    if found is None:
        return 0
    return len(found.value.permitted_subtrees or ()) + len(found.value.excluded_subtrees or ())


def is_affordable(names: int, constraints: int) -> bool:
    """Return whether each name can be compared with each constraint within the limit of this module."""
    return names * constraints <= _MAX_COMPARISONS


def _signatures(issuer: x509.Name, links: Sequence[tuple[x509.Name, x509.Name | None]], depth: int) -> int:
    """Return the maximum number of signatures that a search verifies.

    This is the number of pairs of a certificate and a possible issuer, counted over all possible paths.
    """
    paths, found = Counter({issuer: 1}), 0
    for _ in range(depth + 1):
        above: Counter[x509.Name] = Counter()
        for subject, its_issuer in links:
            found += paths[subject]
            if its_issuer is not None and paths[subject]:
                above[its_issuer] += paths[subject]
        paths = above
    return found
