"""What one request may cost, and what endless different ones may take of memory."""

import base64
import contextlib
import time
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID

from mtls_middleware import ClientCertificate, Verification
from mtls_middleware.asgi_request import ASGIRequest
from mtls_middleware.effects.flow import BlockingDriver
from mtls_middleware.errors import Refused
from mtls_middleware.layers.paths import PathRules
from mtls_middleware.policy import Issuer, Subject
from mtls_middleware.request import Peer, TLSFacts
from mtls_middleware.resource_server.bearer import bearer_token
from mtls_middleware.sources import ClientCertHeader, Envoy, HAProxy, Nginx
from mtls_middleware.sources.encoding import MAX_FIELD
from mtls_middleware.sources.vendors import KNOWN_HEADERS
from mtls_middleware.testing import CertificateAuthority, TokenIssuer
from tests.views import View

# Seconds of CPU. What is measured takes a tenth of it; before it was mended, up to forty times as much.
LIMIT = 0.05
TRUST: dict[str, Any] = {"trusted_proxies": ["10.0.0.0/8"]}


def cost(once: Callable[[], object]) -> float:
    """Of the best of three, since others use the machine too. Refusals are answers as good as any."""

    def timed() -> float:
        start = time.process_time()
        with contextlib.suppress(Refused):
            once()
        return time.process_time() - start

    return min(timed() for _ in range(3))


def filled(start: str, unit: str, size: int = MAX_FIELD) -> str:
    return (start + unit * size)[:size]


HEADERS = {
    "escapes": (Nginx(**TRUST), filled("", "%41")),
    "broken escapes": (Nginx(**TRUST), filled("", "%")),
    "begins": (Nginx(**TRUST), filled("", "-----BEGIN CERTIFICATE-----\n")),
    "blanks in PEM": (Nginx(**TRUST), filled("-----BEGIN CERTIFICATE-----\n", "A ")),
    "empty DER": (HAProxy(**TRUST), base64.b64encode(b"0\x00" * 36_000).decode()),
    "nested DER": (HAProxy(**TRUST), base64.b64encode(b"0\x80" * 36_000).decode()),
    "parameters": (ClientCertHeader(**TRUST), filled(":AAAA:", ";a")),
    "display string": (ClientCertHeader(**TRUST), filled('%"', "%41")),
    "inner list": (ClientCertHeader(**TRUST), filled("(", ":AA==: ")),
    "token": (ClientCertHeader(**TRUST), filled("", "a")),
    "XFCC keys": (Envoy(**TRUST), filled("", "k=;")),
    "XFCC By": (Envoy(**TRUST), filled("", "By=a;")),
    "XFCC elements": (Envoy(hops=0, **TRUST), filled("", "By=a,")),
    "XFCC quoted": (Envoy(**TRUST), filled('By="', ", ") + '"'),
    "XFCC escapes": (Envoy(**TRUST), filled('By="', '\\"') + '"'),
}


@pytest.mark.case("062")
@pytest.mark.parametrize("case", HEADERS)
def test_no_certificate_field_of_full_size_is_dear(case: str) -> None:
    source, value = HEADERS[case]
    fields = {source._certificate_header: [value], "x-ssl-client-verify": ["SUCCESS"]}
    view = View("GET", "/", "", lambda name: fields.get(name, []), Peer("10.0.0.7"), TLSFacts(), None, time.time())
    assert cost(lambda: source.find(view)) < LIMIT


@pytest.mark.parametrize("unit", ["&", ";", "a&", "%61&", "%&", "+&", "access_toke&", "%61%63%63%65%73%73%5f"])
def test_no_query_is_dear(unit: str) -> None:
    """Anybody can send one, with any token."""
    query = filled("", unit)
    assert cost(lambda: bearer_token(["Bearer abc"], query)) < LIMIT


@pytest.mark.parametrize(
    "value", [filled("Bearer ", " "), filled("Basic ", ", "), filled("Basic ,", " "), filled("", "a")]
)
def test_no_authorization_is_dear(value: str) -> None:
    assert cost(lambda: bearer_token([value], "")) < LIMIT


@pytest.mark.parametrize("unit", ["/a", "a", " /"])
@pytest.mark.parametrize("start", ["", "/admin/reports", "/admin/"])
def test_no_path_is_dear_where_rules_go_by_paths(start: str, unit: str) -> None:
    path = filled(start, unit)
    rules = PathRules({"/admin/reports": Subject("CN=a"), "/": Subject("CN=b")})
    assert cost(lambda: rules.of(path)) < LIMIT


@pytest.mark.parametrize("unit", [",", ", ,", "1,", "[,", "10.0.0.7,", "10.0.0.7:", "x10.0.0.7:,", "[10.0.0.7,"])
@pytest.mark.parametrize("lines", [1, 5_000])
def test_no_list_of_forwarders_is_dear(unit: str, lines: int) -> None:
    """The peer's own address is known to whoever sends it."""
    fields = [(b"x-forwarded-for", filled("", unit, MAX_FIELD // lines).encode())] * lines
    scope = {"type": "http", "path": "/", "headers": fields, "client": ("10.0.0.7", 50_000)}
    assert cost(lambda: ASGIRequest(scope).peer) < LIMIT / 2


def test_no_number_of_header_fields_is_dear() -> None:
    for fields in ([(b"h%d" % each, b"") for each in range(10_000)], [(b"x-ssl-client-cert", b"")] * 10_000):
        scope = {"type": "http", "path": "/", "headers": fields}
        assert cost(lambda scope=scope: ASGIRequest(scope).place(KNOWN_HEADERS)) < LIMIT


NAMES = {
    "combining marks": [filled("a", "\u0301\u0327", 40_000)],
    "ligatures": [filled("", "\ufdfa", 30_000)],
    "blanks": [filled("a", "  ", 90_000)],
    "many": [str(number) for number in range(2_000)],
    "as long as they are read": [filled("a", "\u0301\u0327", 4_000)],
}


@pytest.mark.filterwarnings("ignore:Attribute's length:UserWarning")
@pytest.mark.parametrize("case", NAMES)
def test_no_name_is_dear_to_compare(case: str, mtls_ca: CertificateAuthority) -> None:
    unit = NameOID.ORGANIZATIONAL_UNIT_NAME
    name = x509.Name([x509.NameAttribute(unit, text, _validate=False) for text in NAMES[case]])
    der = mtls_ca.issue(name).der
    for rule in (Subject("CN=a"), ~Subject("CN=a"), Issuer("CN=a")):
        assert cost(lambda rule=rule: rule.holds(_verified(der))) < LIMIT
    assert cost(lambda: repr(_verified(der))) < LIMIT


def _verified(der: bytes) -> ClientCertificate:
    return ClientCertificate.from_der(der, verification=Verification.BY_SERVER)


def test_memory_stays_flat_under_tokens_that_expand_when_parsed(mtls_issuer: TokenIssuer) -> None:
    """16 kB of `{}` become half a megabyte of objects; 4096 of those would be gigabytes."""
    tokens, driver = mtls_issuer.access_tokens(), BlockingDriver()
    texts = [mtls_issuer.token(claims={"x": [{}] * 3_900}) for _ in range(12)]
    driver.run(tokens.validate(texts[0], time.time()))
    tracemalloc.start()
    try:
        for text in texts:
            assert driver.run(tokens.validate(text, time.time())).claims["x"]
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 1_000_000
