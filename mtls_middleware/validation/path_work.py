"""Bounds the work of path building: CAs that a client presents are left out if the search could take too long.

Pure: no signature is verified here, and no clock is read.
"""

from collections import Counter
from collections.abc import Sequence

from cryptography import x509
from cryptography.x509.oid import NameOID

from mtls_middleware.validation.profile import extension

# Signatures that a search may verify, on all ways from the leaf up. A search for a path takes exponential time in the
# depth (RFC 4158 section 2): eight CAs of one name that signed each other took 20 s with cryptography 46, which has no
# bound of its own. Two versions of each CA on three levels take 14.
_MOST_SIGNATURES = 32
# Comparisons of a name with a name constraint: a leaf with 32 names under 4,096 constraints.
_MOST_COMPARISONS = 131_072


def affordable(
    leaf: x509.Certificate,
    presented: Sequence[x509.Certificate],
    *,
    roots: Sequence[x509.Certificate],
    intermediates: Sequence[x509.Certificate],
    constraints: int,
    depth: int,
) -> list[x509.Certificate]:
    """The CAs of `presented` with which a search stays within both bounds, the first ones first.

    `constraints`: how many name constraints the roots and the intermediates have.

    Raises `ValueError` and what `cryptography` raises for certificates that cannot be read.
    """
    if not presented:
        return []
    links: list[tuple[x509.Name, x509.Name | None]] = [(each.subject, None) for each in roots]
    links += [(each.subject, each.issuer) for each in intermediates]
    names = name_count(leaf) + sum(map(name_count, intermediates))
    kept = []
    for each in presented:
        link = each.subject, each.issuer
        more_names, more_constraints = names + name_count(each), constraints + constraint_count(each)
        if _signatures(leaf.issuer, [*links, link], depth) <= _MOST_SIGNATURES and is_affordable(
            more_names, more_constraints
        ):
            kept.append(each)
            links.append(link)
            names, constraints = more_names, more_constraints
    return kept


def name_count(certificate: x509.Certificate) -> int:
    """How many names a constraint can be compared with: alternative names, and mailboxes in the subject."""
    names = extension(certificate, x509.SubjectAlternativeName)
    mailboxes = certificate.subject.get_attributes_for_oid(NameOID.EMAIL_ADDRESS)
    return (0 if names is None else len(names.value)) + len(mailboxes)


def constraint_count(certificate: x509.Certificate) -> int:
    """How many name constraints a CA has."""
    found = extension(certificate, x509.NameConstraints)
    if found is None:
        return 0
    return len(found.value.permitted_subtrees or ()) + len(found.value.excluded_subtrees or ())


def is_affordable(names: int, constraints: int) -> bool:
    """Whether comparing each of these names with each of these constraints stays within the bound."""
    return names * constraints <= _MOST_COMPARISONS


def _signatures(issuer: x509.Name, links: Sequence[tuple[x509.Name, x509.Name | None]], depth: int) -> int:
    """How many pairs of a certificate and a possible issuer of it a search by names alone can meet."""
    ways, found = Counter({issuer: 1}), 0
    for _ in range(depth + 1):
        above: Counter[x509.Name] = Counter()
        for subject, its_issuer in links:
            found += ways[subject]
            if its_issuer is not None and ways[subject]:
                above[its_issuer] += ways[subject]
        ways = above
    return found
