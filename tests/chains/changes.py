"""Changes to a sound PKI: of a CA, of a leaf, and of a revocation list. A change may keep everything valid."""

import ipaddress
from collections.abc import Callable, Mapping
from functools import partial
from random import Random
from typing import Any

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from tests.chains.drafts import PKI, WRONG_KEY, Draft, Extension, ListDraft

ANY_POLICY = "2.5.29.32.0"
_POLICIES = tuple(f"1.3.6.1.4.1.99999.7.{number}" for number in (1, 2, 3))
_OID = x509.ObjectIdentifier
_PURPOSES = {
    "client": [ExtendedKeyUsageOID.CLIENT_AUTH],
    "server": [ExtendedKeyUsageOID.SERVER_AUTH],
    "both": [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH],
    "any": [ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE],
}
PLACES = ("http://crl.internal/1", "http://crl.internal/2")
_SUBTREES = {
    "dns": x509.DNSName("internal"),
    "ip": x509.IPAddress(ipaddress.ip_network("10.0.0.0/8")),
    "email": x509.RFC822Name("acme.example"),
    "uri": x509.UniformResourceIdentifier("acme.internal"),
    "directory": x509.DirectoryName(x509.Name.from_rfc4514_string("O=Acme")),
}
_NAMES = (
    x509.DNSName("billing.internal"),
    x509.DNSName("billing.example"),
    x509.IPAddress(ipaddress.ip_address("10.1.2.3")),
    x509.IPAddress(ipaddress.ip_address("192.0.2.1")),
    x509.RFC822Name("a@acme.example"),
    x509.RFC822Name("a@evil.example"),
    x509.UniformResourceIdentifier("spiffe://acme.internal/a"),
    x509.DirectoryName(x509.Name.from_rfc4514_string("CN=a,O=Evil")),
)


def _oid(dotted: str) -> bytes:
    return _tlv(6, x509.CertificatePolicies([x509.PolicyInformation(_OID(dotted), None)]).public_bytes()[6:])


def _tlv(tag: int, content: bytes) -> bytes:
    assert len(content) < 128
    return bytes([tag, len(content)]) + content


def policies(random: Random) -> x509.ExtensionType:
    chosen = random.sample([*_POLICIES, ANY_POLICY], random.choice([1, 1, 2, 3]))
    return x509.CertificatePolicies([x509.PolicyInformation(_OID(each), None) for each in chosen])


def mappings(random: Random) -> x509.ExtensionType:
    """A PolicyMappings extension (RFC 5280 4.2.1.5), sometimes with the special policy, which must not be mapped."""
    pairs = [random.sample([*_POLICIES, *[ANY_POLICY] * (random.random() < 0.3)], 2) for _ in range(2)]
    encoded = b"".join(_tlv(0x30, _oid(a) + _oid(b)) for a, b in pairs)
    return x509.UnrecognizedExtension(_OID("2.5.29.33"), _tlv(0x30, encoded))


def qualified(_: Random) -> x509.ExtensionType:
    """The qcStatements of a qualified certificate (ETSI EN 319 412-5)."""
    return x509.UnrecognizedExtension(_OID("1.3.6.1.5.5.7.1.3"), bytes.fromhex("300a300806060400 8e460101"))


def unknown(_: Random) -> x509.ExtensionType:
    return x509.UnrecognizedExtension(_OID("1.3.6.1.4.1.99999.1"), b"\5\0")


def constraints(random: Random) -> x509.ExtensionType:
    permitted = random.sample(list(_SUBTREES.values()), random.choice([0, 1, 2])) or None
    excluded = random.sample(list(_SUBTREES.values()), 1 if permitted is None else random.choice([0, 1])) or None
    return x509.NameConstraints(permitted, excluded)


def policy_constraints(random: Random) -> x509.ExtensionType:
    explicit = random.choice([None, 0, 1])
    return x509.PolicyConstraints(explicit, 0 if explicit is None else random.choice([None, 0]))


def inhibit_any(random: Random) -> x509.ExtensionType:
    return x509.InhibitAnyPolicy(random.choice([0, 1]))


def names(random: Random) -> x509.ExtensionType:
    return x509.SubjectAlternativeName(random.sample(_NAMES, random.choice([1, 2])))


def place(random: Random) -> x509.ExtensionType:
    name = x509.UniformResourceIdentifier(random.choice(PLACES))
    why = random.choice([None] * 4 + [frozenset([x509.ReasonFlags.key_compromise])])
    issuer = [x509.DirectoryName(x509.Name.from_rfc4514_string("CN=Other"))] if random.random() < 0.1 else None
    return x509.CRLDistributionPoints([x509.DistributionPoint([name], None, why, issuer)])


def freshest(_: Random) -> x509.ExtensionType:
    return x509.FreshestCRL([x509.DistributionPoint([x509.UniformResourceIdentifier(PLACES[1])], None, None, None)])


def part(random: Random) -> x509.ExtensionType:
    """An issuingDistributionPoint."""
    fields: dict[str, Any] = dict.fromkeys(("full_name", "relative_name", "only_some_reasons"))
    flags = ["only_contains_user_certs", "only_contains_ca_certs", "only_contains_attribute_certs"]
    fields |= dict.fromkeys([*flags, "indirect_crl"], False)
    match random.choice(["kind", "kind", "place", "place", "both", "reasons", "indirect"]):
        case "kind":
            fields[random.choice(flags[:2] * 4 + flags)] = True
        case "place":
            fields["full_name"] = [x509.UniformResourceIdentifier(random.choice(PLACES))]
        case "both":
            fields["full_name"] = [x509.UniformResourceIdentifier(random.choice(PLACES))]
            fields[random.choice(flags[:2])] = True
        case "reasons":
            fields["only_some_reasons"] = frozenset([x509.ReasonFlags.key_compromise])
        case "indirect":
            fields["indirect_crl"] = True
    return x509.IssuingDistributionPoint(**fields)


def add(
    make: Callable[[Random], x509.ExtensionType], critical: bool | None, target: Draft | ListDraft, random: Random
) -> None:
    """Add an extension. `critical`: `None` for either."""
    given: Extension = make(random), random.random() < 0.5 if critical is None else critical
    target.more = [each for each in target.more if each[0].oid != given[0].oid]
    target.more.append(given)


def put(name: str, values: list[Any], target: Draft | ListDraft, random: Random) -> None:
    """Set an attribute to one of the values."""
    setattr(target, name, random.choice(values))


Change = Callable[[Any, Random], None]
OF_A_CA: Mapping[str, Change] = {
    "not a CA": partial(put, "ca", [False, None]),
    "path length": partial(put, "path_length", [0, 0, 1, 2]),
    "key usage": partial(
        put, "usage", [None, ("key_cert_sign",), ("crl_sign",), ("digital_signature", "key_cert_sign", "crl_sign")]
    ),
    "extended key usage": partial(put, "purposes", list(_PURPOSES.values())),
    "expired": partial(put, "ends", [-1]),
    "not yet valid": partial(put, "begins", [1]),
    "signed by another key": partial(put, "signer", [WRONG_KEY]),
    "no subject key identifier": partial(put, "has_subject_key", [False]),
    "no authority key identifier": partial(put, "has_authority_key", [False]),
    "name constraints": partial(add, constraints, True),
    "name constraints, not critical": partial(add, constraints, False),
    "policies": partial(add, policies, False),
    "critical policies": partial(add, policies, True),
    "policy mappings": partial(add, mappings, None),
    "policy constraints": partial(add, policy_constraints, None),
    "inhibit any policy": partial(add, inhibit_any, None),
    "unknown critical extension": partial(add, unknown, True),
    "distribution point": partial(add, place, False),
}
OF_A_LEAF: Mapping[str, Change] = {
    "a CA": partial(put, "ca", [True]),
    "no basic constraints": partial(put, "ca", [None]),
    "key usage": partial(
        put, "usage", [None, ("key_agreement",), ("key_encipherment",), ("digital_signature", "key_cert_sign")]
    ),
    "extended key usage": partial(put, "purposes", [None, *_PURPOSES.values()]),
    "expired": partial(put, "ends", [-1]),
    "not yet valid": partial(put, "begins", [1]),
    "signed by another key": partial(put, "signer", [WRONG_KEY]),
    "no authority key identifier": partial(put, "has_authority_key", [False]),
    "alternative names": partial(add, names, None),
    "subject": partial(put, "subject", ["CN=a,O=Evil", "O=Acme", "CN=a,1.2.840.113549.1.9.1=a@evil.example"]),
    "policies": partial(add, policies, False),
    "critical policies": partial(add, policies, True),
    "policy mappings": partial(add, mappings, None),
    "policy constraints": partial(add, policy_constraints, None),
    "inhibit any policy": partial(add, inhibit_any, None),
    "qcStatements": partial(add, qualified, False),
    "critical qcStatements": partial(add, qualified, True),
    "name constraints": partial(add, constraints, True),
    "unknown critical extension": partial(add, unknown, True),
    "unknown extension": partial(add, unknown, False),
    "distribution point": partial(add, place, False),
    "freshest CRL": partial(add, freshest, False),
}


def _delta(_: Random) -> x509.ExtensionType:
    return x509.DeltaCRLIndicator(4)


def _entry(target: ListDraft, random: Random) -> None:
    reason = random.choice([x509.ReasonFlags.certificate_hold, x509.ReasonFlags.remove_from_crl])
    other = x509.CertificateIssuer([x509.DirectoryName(x509.Name.from_rfc4514_string("CN=Other"))])
    target.entries = [(x509.CRLReason(reason), False)] if random.random() < 0.7 else [(other, True)]


OF_A_LIST: Mapping[str, Change] = {
    "expired": partial(put, "ends", [-0.5]),
    "not yet valid": partial(put, "begins", [0.5]),
    "signed by another key": partial(put, "signer", [WRONG_KEY]),
    "name in capitals": lambda target, _: setattr(target, "name", target.issuer.subject.replace("Level", "LEVEL")),
    "partition": partial(add, part, True),
    "delta": partial(add, _delta, True),
    "unknown critical extension": partial(add, unknown, True),
    "no number": partial(put, "number", [None]),
    "kinds of entries": _entry,
}


def drop_list(pki: PKI, random: Random) -> None:
    if pki.lists:
        pki.lists.remove(random.choice(pki.lists))


def second_list(pki: PKI, random: Random) -> None:
    """Another list of a CA, older or newer or of the same number, with other entries."""
    if not pki.lists:
        return
    first = random.choice(pki.lists)
    serials = {each.serial for each in [*pki.authorities, *pki.leaves] if each.issuer is first.issuer}
    revoked = set(random.sample(sorted(serials), min(len(serials), random.choice([0, 1, 2]))))
    pki.lists.append(
        ListDraft(
            first.issuer,
            revoked,
            begins=random.choice([-2, -1, -0.5]),
            ends=random.choice([-0.2, 1]),
            number=random.choice([4, 5, 6]),
            more=list(first.more) if random.random() < 0.7 else [],
        )
    )


def revoke_authority(pki: PKI, random: Random) -> None:
    if pki.between:
        revoked = random.choice(pki.between)
        for each in pki.lists:
            if each.issuer is revoked.issuer:
                each.revoked.add(revoked.serial)


def twin(pki: PKI, random: Random) -> None:
    """A second CA with the name of the first and another key. It issues some of the leaves, and has a list or none."""
    first = random.choice(pki.authorities)
    other = Draft(first.subject, 40 + first.key, 900 + first.serial, pki.roots[0])
    pki.between.append(other)
    for each in pki.leaves:
        if each.issuer is first and random.random() < 0.5:
            each.issuer = other
    if random.random() < 0.6:
        pki.lists.append(ListDraft(other, {each.serial for each in pki.leaves if random.random() < 0.1}))


def cross_certificate(pki: PKI, random: Random) -> None:
    """A second root, trusted or not, that certifies the key of a CA, too."""
    crossed = random.choice(pki.authorities)
    root = Draft("CN=Other Root,O=Acme", 30, 800)
    if random.random() < 0.7:
        pki.roots.append(root)
    again = Draft(crossed.subject, crossed.key, 801, root, purposes=crossed.purposes)
    pki.between.append(again)
    if random.random() < 0.7:
        pki.lists.append(ListDraft(root, {801} if random.random() < 0.3 else set()))


OF_A_PKI: Mapping[str, Callable[[PKI, Random], None]] = {
    "list missing": drop_list,
    "second list": second_list,
    "CA revoked": revoke_authority,
    "two CAs with one name": twin,
    "cross-certificate": cross_certificate,
}
