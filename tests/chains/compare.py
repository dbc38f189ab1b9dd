"""Compares the results for generated PKIs with those of `openssl verify`, and of rustls-webpki if it is there.

For a part of the PKIs, it also compares OCSP responses: see `compare_ocsp.py`.
"""

import tempfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from tests.chains import webpki
from tests.chains.compare_ocsp import compare_ocsp
from tests.chains.drafts import NOW
from tests.chains.explanations import OPTIONS, Differs, explain
from tests.chains.generate import draw
from tests.chains.ours import Built, our_results
from tests.validation.openssl_verify import verify


@dataclass
class Tally:
    """How often each result occurred.

    Attributes:
        explained: the differences from OpenSSL, by explanation.
        third: the results of rustls-webpki for the chains that this library accepts.
        ocsp: the results for chains with OCSP responses, which are not among the other results.
        accepted_with, rejected_with: how many chains with each change OpenSSL accepted and rejected.
    """

    chains: int = 0
    accepted: int = 0
    rejected: int = 0
    explained: Counter[str] = field(default_factory=Counter)
    third: Counter[str] = field(default_factory=Counter)
    ocsp: Counter[str] = field(default_factory=Counter)
    accepted_with: Counter[str] = field(default_factory=Counter)
    rejected_with: Counter[str] = field(default_factory=Counter)

    def add(self, other: "Tally") -> None:
        self.chains += other.chains
        self.accepted += other.accepted
        self.rejected += other.rejected
        for name in ("explained", "third", "ocsp", "accepted_with", "rejected_with"):
            getattr(self, name).update(getattr(other, name))

    def __str__(self) -> str:
        lines = [f"{self.chains} chains: {self.accepted} accepted by both, {self.rejected} rejected by both"]
        for counter in (self.explained, self.third):
            lines += [f"{count:8} {name}" for name, count in counter.most_common()]
        if self.ocsp:
            lines.append(f"{self.ocsp.total()} chains with OCSP responses")
            lines += [f"{count:8} {name}" for name, count in self.ocsp.most_common()]
        return "\n".join(lines)


def compare(seed: object, chains: int, third: webpki.WebPKI | None = None, ocsp: float = 0) -> Tally:
    """Compare so many generated chains. Raises `Differs` with the seed of a PKI and the difference.

    `ocsp`: the part of the PKIs for which OCSP responses are compared, too, from 0 to 1.
    """
    tally, number = Tally(), 0
    while tally.chains < chains:
        with tempfile.TemporaryDirectory() as directory:
            tally.add(compare_one(f"{seed}/{number}", Path(directory), third, ocsp))
        number += 1
    return tally


def compare_one(seed: str, directory: Path, third: webpki.WebPKI | None = None, ocsp: float = 0) -> Tally:
    """Compare the chains of the PKI that is drawn with this seed."""
    random = Random(seed)
    pki = draw(random)
    built = Built.of(pki)
    theirs = verify(directory, built.roots, built.between, built.lists, built.leaves, *OPTIONS, now=NOW)
    ours = our_results(built, directory, presents_chain=random.random() < 0.5)
    tally = Tally()
    if Random(f"{seed}/share").random() < ocsp:
        tally.ocsp = compare_ocsp(pki, built, seed, directory)
    for number, (own, problems) in enumerate(zip(ours, theirs, strict=True)):
        changes = [*pki.changes, *pki.leaf_changes[number]]
        tally.chains += 1
        (tally.rejected_with if problems else tally.accepted_with).update(changes)
        try:
            if not own.reasons and not problems:
                tally.accepted += 1
            elif own.reasons and problems:
                tally.rejected += 1
            else:
                tally.explained[explain(own, built, directory)] += 1
            if third is not None and not own.reasons:
                tally.third[webpki.explain(third, own, built)] += 1
        except Differs as difference:
            raise Differs(f"{difference}; seed {seed!r}, leaf {number}: {', '.join(changes)}") from None
    return tally
