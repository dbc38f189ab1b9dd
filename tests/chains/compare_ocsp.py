"""Compares the results for generated PKIs and OCSP responses with those of `openssl ocsp`."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import groupby, pairwise
from operator import itemgetter
from pathlib import Path
from random import Random

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp

from mtls_middleware.certificate import ClientCertificate
from mtls_middleware.effects.exchange import Fetch, Response
from mtls_middleware.effects.flow import Begin, Flow
from mtls_middleware.errors import ConfigurationError, MalformedCertificate, Refused, Unavailable
from mtls_middleware.validation import OCSP, TrustStore
from tests.chains.drafts import NOW, PKI, key
from tests.chains.explanations import Differs
from tests.chains.ours import Built
from tests.chains.responses import draw, key_hash
from tests.validation import openssl_ocsp

# Patterns of the reasons for which only this library rejects a chain, and the explanation. The first match counts.
STRICTER: Mapping[str, str] = {
    "no id-pkix-ocsp-nocheck": "a delegated responder whose own status is not known",
    "keyUsage of the responder's certificate": "the key usage of the responder's certificate",
    "has a critical extension|a critical extension that": "a critical extension in the response",
    "producedAt is": "producedAt in the future",
    "[02] statuses": "two statuses for one certificate",
    "no nextUpdate and no nonce": "an old response without nextUpdate",
}

Responses = Mapping[bytes, bytes]  # by the hash of the issuer's key


def compare_ocsp(pki: PKI, built: Built, seed: str, directory: Path) -> Counter[str]:
    """Compare the chains of a PKI, with OCSP responses that are drawn with this seed.

    Return how often each result occurred. Chains whose path is rejected without revocation are not counted. Raises
    `Differs` with a difference that has no explanation.
    """
    found: Counter[str] = Counter()
    drafts = draw(pki, Random(f"{seed}/ocsp"))
    responses = {key_hash(key(each.issuer.key).public_key()): each.build() for each in drafts}
    try:
        plain = TrustStore(built.roots, intermediates=built.between)
        store = TrustStore(built.roots, intermediates=built.between, revocation=OCSP("http://ocsp.test", nonce="none"))
    except ConfigurationError:  # a root that can never validate
        return found
    paths = [_run(plain, leaf, responses) for leaf in built.leaves]
    theirs = _verdicts(directory, [path for path in paths if isinstance(path, list)], responses)
    for number, (leaf, path) in enumerate(zip(built.leaves, paths, strict=True)):
        if isinstance(path, tuple):
            continue
        own = _run(store, leaf, responses)
        try:
            found[_result(own if isinstance(own, tuple) else (), [theirs[pair] for pair in _pairs(path)])] += 1
        except Differs as difference:
            changes = [*pki.changes, *pki.leaf_changes[number], *(name for each in drafts for name in each.changes)]
            raise Differs(f"{difference}; seed {seed!r}, leaf {number}: {', '.join(changes)}") from None
    return found


def _result(reasons: Sequence[str], theirs: Sequence[str]) -> str:
    is_good = set(theirs) <= {"good"}
    if not reasons and is_good:
        return "accepted by both"
    if reasons and not is_good:
        return "rejected by both"
    if not reasons:
        raise Differs(f"ACCEPTED HERE ONLY: {theirs}")
    for pattern, explanation in STRICTER.items():
        if any(re.search(pattern, each) for each in reasons):
            return f"rejected here: {explanation}"
    raise Differs(f"rejected here only: {reasons}")


def _run(store: TrustStore, leaf: x509.Certificate, responses: Responses) -> list[x509.Certificate] | tuple[str, ...]:
    """Return the path of a certificate that is accepted, or the reasons why it is rejected."""
    try:
        certificate = ClientCertificate.from_der(leaf.public_bytes(Encoding.DER))
        validated = _drive(store.validate(certificate, NOW), responses)
    except MalformedCertificate as error:
        return tuple(error.evidence) or ("malformed",)
    except (Refused, Unavailable) as error:
        return tuple(error.evidence)
    return [x509.load_der_x509_certificate(each) for each in validated.path]


def _drive(flow: "Flow[ClientCertificate]", responses: Responses) -> ClientCertificate:
    """Run a flow, and answer its OCSP requests without a network."""
    answer = None
    try:
        while True:
            need = flow.send(answer)
            fetch = need.fetch if isinstance(need, Begin) else need
            assert isinstance(fetch, Fetch)
            assert fetch.content is not None
            if not fetch.outcome.done():
                request = ocsp.load_der_ocsp_request(fetch.content)
                fetch.claim()
                fetch.outcome.set_result(Response(200, responses[request.issuer_key_hash]))
            answer = fetch.outcome.result() if isinstance(need, Fetch) else None
    except StopIteration as stop:
        result: ClientCertificate = stop.value
        return result


def _verdicts(
    directory: Path, paths: Sequence[Sequence[x509.Certificate]], responses: Responses
) -> dict[tuple[bytes, bytes], str]:
    """Return OpenSSL's verdict about each pair of a certificate and its issuer, with one process for each issuer."""
    found: dict[tuple[bytes, bytes], str] = {}
    pairs = sorted({pair for path in paths for pair in _pairs(path)}, key=itemgetter(1))
    for issuer_der, group in groupby(pairs, key=itemgetter(1)):
        certificates = [der for der, _ in group]
        issuer = x509.load_der_x509_certificate(issuer_der)
        (directory / "ca.pem").write_bytes(issuer.public_bytes(Encoding.PEM))
        names = [f"client{number}" for number in range(len(certificates))]
        for name, der in zip(names, certificates, strict=True):
            (directory / f"{name}.pem").write_bytes(x509.load_der_x509_certificate(der).public_bytes(Encoding.PEM))
        # The issuer is the only anchor: `openssl verify` compares the path above it.
        verdicts = openssl_ocsp.read_all(directory, responses[key_hash(issuer.public_key())], names, "-partial_chain")
        found |= {(der, issuer_der): verdict for der, verdict in zip(certificates, verdicts, strict=True)}
    return found


def _pairs(path: Sequence[x509.Certificate]) -> list[tuple[bytes, bytes]]:
    return list(pairwise(each.public_bytes(Encoding.DER) for each in path))
