"""Makes the checks of name constraints in a path that `cryptography` omits (RFC 5280 4.2.1.10).

`cryptography` checks DNS names, IP addresses and mailboxes in subjectAltName. This module checks directory names and
the mailbox in a subject, and rejects constraints of other types.
"""

from collections.abc import Iterator, Sequence

from cryptography import x509
from cryptography.x509.oid import NameOID

from mtls_middleware.names import distinguished

_CHECKED_BY_CRYPTOGRAPHY = (x509.DNSName, x509.IPAddress, x509.RFC822Name)


def violations(path: Sequence[x509.Certificate]) -> Iterator[str]:
    """Yield a description of each violation of a name constraint. `path`: the certificates of the path, leaf first.

    Raises the exceptions of `chain.UNREADABLE` for unreadable names.
    """
    for position, authority in enumerate(path):
        constraints = _constraints(authority)
        if constraints is None:
            continue
        if position == 0:
            yield "name constraints in a certificate that is not a CA certificate"
            continue
        if constraints.public_bytes() not in authority.tbs_certificate_bytes:
            # `cryptography` ignores minimum and maximum. By RFC 5280 4.2.1.10, minimum must be zero, and maximum must
            # be absent.
            yield "name constraints with a minimum or a maximum"
        for number, below in enumerate(path[:position]):
            # Constraints do not apply to a self-issued intermediate, with which a CA changes its key (RFC 5280
            # 4.2.1.10).
            if number == 0 or below.subject != below.issuer:
                yield from _violations_of(below, constraints)


def _violations_of(certificate: x509.Certificate, constraints: x509.NameConstraints) -> Iterator[str]:
    permitted, excluded = constraints.permitted_subtrees or [], constraints.excluded_subtrees or []
    alternative = _alternative(certificate)
    for subtree in (*permitted, *excluded):
        if not isinstance(subtree, (*_CHECKED_BY_CRYPTOGRAPHY, x509.DirectoryName)) and any(
            isinstance(name, type(subtree)) for name in alternative
        ):
            yield f"a name constraint of an unsupported type: {type(subtree).__name__}"
    yield from _directory_names(certificate, alternative, permitted, excluded)
    yield from _subject_mailboxes(certificate, permitted, excluded)


def _directory_names(
    certificate: x509.Certificate,
    alternative: Sequence[x509.GeneralName],
    permitted: Sequence[x509.GeneralName],
    excluded: Sequence[x509.GeneralName],
) -> Iterator[str]:
    within = [distinguished.from_x509(each.value) for each in permitted if isinstance(each, x509.DirectoryName)]
    without = [distinguished.from_x509(each.value) for each in excluded if isinstance(each, x509.DirectoryName)]
    if not within and not without:
        return
    names = [each.value for each in alternative if isinstance(each, x509.DirectoryName)]
    if certificate.subject.rdns:
        names.append(certificate.subject)
    for name in map(distinguished.from_x509, names):
        if within and not any(distinguished.is_within(name, subtree) for subtree in within):
            yield "a name that is not in the permitted directory names"
        if any(distinguished.is_within(name, subtree) is not False for subtree in without):
            yield "a name within the excluded directory names"


def _subject_mailboxes(
    certificate: x509.Certificate, permitted: Sequence[x509.GeneralName], excluded: Sequence[x509.GeneralName]
) -> Iterator[str]:
    """Yield a description if an emailAddress in the subject violates a constraint for mailboxes (RFC 5280 4.2.1.10).

    `cryptography` does not check the subject.
    """
    within = [each.value for each in permitted if isinstance(each, x509.RFC822Name)]
    without = [each.value for each in excluded if isinstance(each, x509.RFC822Name)]
    if not within and not without:
        return
    for attribute in certificate.subject.get_attributes_for_oid(NameOID.EMAIL_ADDRESS):
        mailbox = str(attribute.value)
        if (within and not any(_is_mailbox_within(mailbox, each) for each in within)) or any(
            _is_mailbox_within(mailbox, each) for each in without
        ):
            yield "a mailbox in the subject outside of the name constraints"


def _is_mailbox_within(mailbox: str, subtree: str) -> bool:
    """Return whether `mailbox` is within `subtree`.

    `subtree` is a mailbox (`user@host`), a host (`host`: all mailboxes of the host) or a domain (`.domain`: all hosts
    of the domain).
    """
    local, _, host = mailbox.rpartition("@")
    subtree_local, at, subtree_host = subtree.rpartition("@")
    if at:
        return local == subtree_local and host.lower() == subtree_host.lower()
    if subtree.startswith("."):
        return host.lower().endswith(subtree.lower())
    return host.lower() == subtree.lower()


def _constraints(certificate: x509.Certificate) -> x509.NameConstraints | None:
    try:
        return certificate.extensions.get_extension_for_class(x509.NameConstraints).value
    except x509.ExtensionNotFound:
        return None


def _alternative(certificate: x509.Certificate) -> list[x509.GeneralName]:
    try:
        return list(certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
    except x509.ExtensionNotFound:
        return []
