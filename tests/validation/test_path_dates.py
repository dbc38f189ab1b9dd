"""Which path is valid at a time: if one path ends, another one is found, with the same tolerance for each path."""

import itertools
import random
from datetime import UTC, datetime

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from mtls_middleware.certificate import ClientCertificate
from mtls_middleware.testing import CertificateAuthority
from mtls_middleware.validation import TrustStore
from tests.gateways import both_gateways
from tests.layers.clock import Clock, clock
from tests.layers.test_validity import Layers
from tests.layers.world import behind_nginx, certificates
from tests.validation.unusual_certificates import cross_signed
from tests.validation.verdicts import presented, reasons

__all__ = ["clock"]

BEGUN = 1_900_000_000
LONG = (-100_000, 100_000)


def dates(period):
    begins, ends = (datetime.fromtimestamp(BEGUN + each, UTC) for each in period)
    return {"not_before": begins, "not_after": ends}


def at(moment):
    return datetime.fromtimestamp(BEGUN + moment, UTC)


class Paths:
    """A leaf below one issuing CA that has several certificates: each one is a path. `periods`: seconds from BEGUN."""

    def __init__(self, leaf, *issuing, presented_too=True, leeway=0):
        roots = [CertificateAuthority(f"CN=Root {number}", **dates(LONG)) for number in range(len(issuing))]
        first = roots[0].intermediate("CN=Issuing", **dates(issuing[0]))
        crossed = [
            first.certificate,
            *(cross_signed(first, root, *map(at, each)) for root, each in zip(roots[1:], issuing[1:], strict=True)),
        ]
        chain = tuple(each.public_bytes(Encoding.DER) for each in crossed)
        self.leaf, self.issuing, self.leeway = leaf, issuing, leeway
        self.client = ClientCertificate.from_der(
            presented(first.issue("CN=client", **dates(leaf))).der, chain=chain if presented_too else ()
        )
        self.store = TrustStore(
            [each.certificate for each in roots], intermediates=() if presented_too else crossed, leeway=leeway
        )

    def passes(self, moment):
        return reasons(self.store, self.client, BEGUN + moment) == ()

    def should_pass(self, moment):
        """Whether all of one path is valid at one time, and that time is near enough."""
        for each in self.issuing:
            begins, ends = max(self.leaf[0], each[0]), min(self.leaf[1], each[1])
            if begins <= ends and begins - self.leeway <= moment <= ends + self.leeway:
                return True
        return False

    def edges(self):
        """Just before and just after each date, with and without the tolerance."""
        found = {each for period in (self.leaf, *self.issuing) if period != LONG for each in period}
        for edge, shift in itertools.product(found, (-self.leeway, 0, self.leeway)):
            yield from (edge + shift + by for by in (-1, -0.5, 0, 0.5, 1))


# leaf, the certificates of its issuer, tolerance
ROWS = {
    "the second path outlives the first": (LONG, [(-50, 100), (-50, 200)], 0),
    "the second path begins when the first ends": (LONG, [(-50, 100), (100, 200)], 0),
    "a gap between the paths": (LONG, [(-50, 100), (110, 200)], 0),
    "a gap that the tolerance closes": (LONG, [(-50, 100), (110, 200)], 5),
    "the first path has not begun": (LONG, [(100, 200), (-50, 150)], 60),
    "a leaf that lives for less than the tolerance": ((0, 10), [LONG, (-50, 200)], 60),
    "an issuer that lives for less than the tolerance": (LONG, [(0, 10), (-500, -490)], 300),
    "leaf and issuer overlap for seconds": ((-100, 5), [(0, 100), (-300, -200)], 60),
    "leaf and issuer do not overlap": ((-100, -5), [(5, 100), (-300, -200)], 60),
    "a tolerance of a fraction": ((0, 10), [(5, 100), (-50, 7)], 0.25),
}


@pytest.mark.parametrize("presented_too", [True, False], ids=["presented", "configured"])
@pytest.mark.parametrize("name", ROWS)
def test_path_is_found_for_as_long_as_there_is_one(name, presented_too):
    leaf, issuing, leeway = ROWS[name]
    for each in (issuing, issuing[::-1]):
        paths = Paths(leaf, *each, presented_too=presented_too, leeway=leeway)
        for moment in paths.edges():
            assert paths.passes(moment) is paths.should_pass(moment), moment


def test_generated_periods_agree_with_the_definition():
    chance = random.Random(14)

    def period():
        begins = chance.randint(-chance.choice([30, 100, 400]), 100)
        return LONG if chance.random() < 0.3 else (begins, begins + chance.randint(1, chance.choice([5, 40, 400])))

    for _ in range(40):
        issuing = [period() for _ in range(chance.randint(1, 3))]
        options = {"presented_too": chance.random() < 0.5, "leeway": chance.choice([0, 0.25, 1, 10, 60, 300])}
        paths = Paths(period(), *issuing, **options)
        moments = [*paths.edges(), *(chance.uniform(-500, 500) for _ in range(5))]
        chance.shuffle(moments)  # a cached path must not decide where another one is needed
        for moment in moments:
            assert paths.passes(moment) is paths.should_pass(moment), (paths.leaf, issuing, options, moment)


@both_gateways
@pytest.mark.parametrize("leeway", [None, 300, 5])
def test_second_path_is_found_whatever_the_stores_leeway(gateway: str, leeway: int | None, clock: Clock) -> None:
    """A store with a larger leeway than the layer must not keep a path that the layer no longer accepts."""
    root, other = CertificateAuthority("CN=Root"), CertificateAuthority("CN=Other")
    begins, ends = (datetime.fromtimestamp(clock.now + each, UTC) for each in (-1000, 100))
    issuing = root.intermediate(not_before=begins, not_after=ends)
    second = cross_signed(issuing, other, begins, datetime.fromtimestamp(clock.now + 10_000, UTC))
    both = [issuing.certificate, second]
    store = TrustStore([root.certificate, other.certificate], intermediates=both, leeway=leeway)
    layers = Layers(gateway, certificates(trust_store=store))
    begun, request = clock.now, behind_nginx(issuing.issue())
    for later in (0, 100, 106, 160, 161, 200, 400, 401, 9000):
        clock.now = begun + later
        assert layers.send(request).status == 200, later
