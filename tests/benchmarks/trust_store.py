"""Measure 4: chains that are validated in this process."""

import itertools
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509 import verification

from mtls_middleware.certificate import ClientCertificate, Verification
from mtls_middleware.effects import BlockingDriver
from mtls_middleware.testing import CertificateAuthority
from mtls_middleware.validation import TrustStore
from tests.benchmarks import raw, stacks
from tests.benchmarks.carriers import ASGI, GATEWAYS, WSGI, Application
from tests.benchmarks.loop import Size, Subject, take_turns
from tests.benchmarks.table import Row, microseconds

GOAL_WARM, GOAL_COLD = 10_000, 1.2  # nanoseconds; times the verifier alone


def rows(quick: bool) -> list[Row]:
    root = stacks.authority()
    return [
        *(_warm(gateway, quick) for gateway in GATEWAYS),
        _cold("signed by the root", root, root, quick),
        _cold("signed by an intermediate", root, root.intermediate(), quick),
    ]


def _warm(gateway: WSGI | ASGI, quick: bool) -> Row:
    """The certificate layer with a trust store, and without one."""
    pairs = stacks.headers(stacks.RFC9440, stacks.client())
    inner = {name: Application() for name in ("bare", "without", "with")}
    applications = {name: getattr(each, gateway.name) for name, each in inner.items()}
    layer, stores = (
        stacks.MODULES[gateway.name].ClientCertificateMiddleware,
        TrustStore([stacks.authority().certificate]),
    )
    apps = {
        "bare": applications["bare"],
        "without": layer(applications["without"], stacks.RFC9440.source(), required=True),
        "with": layer(applications["with"], stacks.RFC9440.source(), required=True, trust_store=stores),
    }

    def requests(number: int) -> list[object]:
        return [gateway.carrier(pairs) for _ in range(number)]

    subjects = {name: Subject(gateway.runner(app), requests) for name, app in apps.items()}
    times = take_turns({**subjects, "raw": raw.verification()}, Size.of(quick=quick))
    assert len({each.reached for each in inner.values()}) == 1, "requests were refused"
    added, unit = times["with"].over(times["bare"]).median, times["raw"].median
    store = times["with"].over(times["without"]).median
    return Row(
        4,
        f"trust store, warm, {gateway.name.upper()}",
        f"{microseconds(added)} added",
        f"{microseconds(GOAL_WARM)}",
        added / GOAL_WARM,
        1,
        note=f"whole certificate layer, of which the store {microseconds(store)}; "
        f"{added / unit:.2f} of a raw verification ({microseconds(unit)})",
    )


def _cold(what: str, root: CertificateAuthority, issuer: CertificateAuthority, quick: bool) -> Row:
    store = TrustStore([root.certificate])
    chain = () if issuer is root else (stacks.der_of(issuer.certificate),)
    leaves = _leaves(issuer)

    driver = BlockingDriver()

    def ours(certificate: ClientCertificate) -> None:
        assert driver.run(store.validate(certificate, time.time())).verified

    builder = verification.PolicyBuilder().store(verification.Store([root.certificate]))

    def alone(presented: tuple[x509.Certificate, list[x509.Certificate]]) -> None:
        builder.time(datetime.now(UTC)).build_client_verifier().verify(*presented)

    def loaded(der: bytes) -> tuple[x509.Certificate, list[x509.Certificate]]:
        return x509.load_der_x509_certificate(der), [x509.load_der_x509_certificate(each) for each in chain]

    def certificate(der: bytes) -> ClientCertificate:
        return ClientCertificate.from_der(der, chain=chain, verification=Verification.BY_PROXY)

    times = take_turns(
        {
            "alone": Subject(alone, stacks.drawn(leaves, loaded)),
            "ours": Subject(ours, stacks.drawn(leaves, certificate)),
            "raw": raw.verification(),
        },
        Size.of(quick=quick, operations=5),
    )
    mine, theirs, unit = (times[name].median for name in ("ours", "alone", "raw"))
    return Row(
        4,
        f"trust store, new certificate {what}",
        microseconds(mine),
        f"{microseconds(theirs)} ClientVerifier.verify alone",
        mine / theirs,
        GOAL_COLD,
        note=f"{mine / unit:.2f} of a raw verification ({microseconds(unit)}), the verifier alone {theirs / unit:.2f}; "
        "the rest: the leaf's key, names and extensions, which it leaves to its callers",
    )


def _leaves(issuer: CertificateAuthority) -> Iterator[Any]:
    """DER of new certificates without end, all over one key: to make one costs more than anything here."""
    key = ec.generate_private_key(ec.SECP256R1())
    return (issuer.issue(f"CN=client {number}", dns=[stacks.NAME], key=key).der for number in itertools.count())
