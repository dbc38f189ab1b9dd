"""Draws a PKI at random: a sound one, and a few changes to it."""

from random import Random

from cryptography.x509.oid import ExtendedKeyUsageOID

from tests.chains.changes import OF_A_CA, OF_A_LEAF, OF_A_LIST, OF_A_PKI
from tests.chains.drafts import PKI, Draft, ListDraft

LEAVES = 8
# Changes after which all chains of the PKI are rejected here are less frequent than others.
_SELDOM = {"no number", "delta", "unknown critical extension", "kinds of entries"}
_CHANGES_OF_LISTS = [name for name in [*OF_A_LIST, *OF_A_PKI] for _ in range(1 if name in _SELDOM else 5)]


def draw(random: Random) -> PKI:
    """Return a PKI with eight leaves."""
    pki = _sound(random)
    for _ in range(random.choice([0, 0, 1, 1, 2])):
        _change_authority(pki, random)
    for _ in range(random.choice([0, 0, 1, 1, 2])):
        name = random.choice(_CHANGES_OF_LISTS)
        if name in OF_A_PKI:
            OF_A_PKI[name](pki, random)
        elif pki.lists:
            OF_A_LIST[name](random.choice(pki.lists), random)
        pki.changes.append(f"list: {name}" if name in OF_A_LIST else name)
    for leaf in pki.leaves:
        names = random.sample(sorted(OF_A_LEAF), random.choice([0, 0, 0, 1, 1, 2]))
        for name in names:
            OF_A_LEAF[name](leaf, random)
        pki.leaf_changes.append([f"leaf: {name}" for name in names])
    return pki


def _sound(random: Random) -> PKI:
    root = Draft("CN=Level 0,O=Acme", 0, 1)
    chain = [root]
    for number in range(1, random.choice([1, 2, 2, 3, 4])):
        chain.append(Draft(f"CN=Level {number},O=Acme", number, number + 1, chain[-1]))
    has_policies = random.random() < 0.5
    leaves = []
    for number in range(LEAVES):
        issuer = chain[-1] if random.random() < 0.8 else random.choice(chain)
        leaf = Draft(f"CN=client {number},O=Acme", 20 + number, 100 + number, issuer, ca=False)
        leaf.usage, leaf.purposes = ("digital_signature",), [ExtendedKeyUsageOID.CLIENT_AUTH]
        leaves.append(leaf)
    lists = [ListDraft(each, {leaf.serial for leaf in leaves if random.random() < 0.08}) for each in chain]
    pki = PKI([root], chain[1:], leaves, lists)
    if has_policies:
        for each in [*pki.between, *leaves]:
            OF_A_CA["policies"](each, random)
    return pki


def _change_authority(pki: PKI, random: Random) -> None:
    name = random.choice(sorted(OF_A_CA))
    OF_A_CA[name](random.choice(pki.authorities), random)
    pki.changes.append(f"CA: {name}")
