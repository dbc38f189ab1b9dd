"""What one request may cost, and what endless different ones may take of memory."""

import base64
import time
import tracemalloc
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID

from mtls_middleware import ClientCertificate, Verification
from mtls_middleware.asgi_request import ASGIRequest
from mtls_middleware.effects.flow import BlockingDriver
from mtls_middleware.layers.paths import PathRules
from mtls_middleware.policy import Issuer, Subject
from mtls_middleware.request import Peer, TLSFacts
from mtls_middleware.resource_server.bearer import presented_token
from mtls_middleware.sources import ClientCertHeader, Envoy, HAProxy, Nginx
from mtls_middleware.sources.encoding import MAX_FIELD
from mtls_middleware.sources.vendors import KNOWN_HEADERS
from mtls_middleware.testing import CertificateAuthority, TokenIssuer
from tests.growth import assert_grows_with_size
from tests.request_view import View

TRUST: dict[str, Any] = {"trusted_proxies": ["10.0.0.0/8"]}


def filled(start: str, unit: str, end: str = "") -> Callable[[int], str]:
    """A string of the given size."""
    return lambda size: (start + unit * size)[: size - len(end)] + end


def joined(element: bytes) -> Callable[[int], str]:
    return lambda size: base64.b64encode(element * (size * 3 // 4 // len(element))).decode()


HEADERS = {
    "escapes": (Nginx(**TRUST), filled("", "%41")),
    "broken escapes": (Nginx(**TRUST), filled("", "%")),
    "begins": (Nginx(**TRUST), filled("", "-----BEGIN CERTIFICATE-----\n")),
    "blanks in PEM": (Nginx(**TRUST), filled("-----BEGIN CERTIFICATE-----\n", "A ")),
    "empty DER": (HAProxy(**TRUST), joined(b"0\x00")),
    "nested DER": (HAProxy(**TRUST), joined(b"0\x80")),
    "parameters": (ClientCertHeader(**TRUST), filled(":AAAA:", ";a")),
    "display string": (ClientCertHeader(**TRUST), filled('%"', "%41")),
    "inner list": (ClientCertHeader(**TRUST), filled("(", ":AA==: ")),
    "token": (ClientCertHeader(**TRUST), filled("", "a")),
    "XFCC keys": (Envoy(**TRUST), filled("", "k=;")),
    "XFCC By": (Envoy(**TRUST), filled("", "By=a;")),
    "XFCC elements": (Envoy(hops=0, **TRUST), filled("", "By=a,")),
    "XFCC quoted": (Envoy(**TRUST), filled('By="', ", ", '"')),
    "XFCC escapes": (Envoy(**TRUST), filled('By="', '\\"', '"')),
}


@pytest.mark.case("062")
@pytest.mark.parametrize("case", HEADERS)
def test_no_certificate_field_of_full_size_is_dear(case: str) -> None:
    source, value = HEADERS[case]

    def prepare(size: int) -> Callable[[], object]:
        fields = {source._certificate_header: [value(size)], "x-ssl-client-verify": ["SUCCESS"]}
        view = View("GET", "/", "", lambda name: fields.get(name, []), Peer("10.0.0.7"), TLSFacts(), None, time.time())
        return lambda: source.find(view)

    assert_grows_with_size(prepare, MAX_FIELD)


@pytest.mark.parametrize("unit", ["&", ";", "a&", "%61&", "%&", "+&", "access_toke&", "%61%63%63%65%73%73%5f"])
def test_no_query_is_dear(unit: str) -> None:
    """Anybody can send one, with any token."""

    def prepare(size: int) -> Callable[[], object]:
        query = filled("", unit)(size)
        return lambda: presented_token(["Bearer abc"], query)

    assert_grows_with_size(prepare, MAX_FIELD)


AUTHORIZATIONS = {
    "blanks": filled("Bearer ", " "),
    "commas": filled("Basic ", ", "),
    "comma and blanks": filled("Basic ,", " "),
    "scheme": filled("", "a"),
    "equals signs": filled("", "="),
    "token with another character": filled("Bearer ", "a", "!"),
}


@pytest.mark.parametrize("query", ["", "&;" * 20_000], ids=["no query", "long query"])
@pytest.mark.parametrize("case", AUTHORIZATIONS)
def test_no_authorization_is_dear(case: str, query: str) -> None:
    def prepare(size: int) -> Callable[[], object]:
        value = AUTHORIZATIONS[case](size)
        return lambda: presented_token([value], query)

    assert_grows_with_size(prepare, MAX_FIELD)


@pytest.mark.parametrize("unit", ["/a", "a", " /"])
@pytest.mark.parametrize("start", ["", "/admin/reports", "/admin/"])
def test_no_path_is_dear_where_rules_go_by_paths(start: str, unit: str) -> None:
    def prepare(size: int) -> Callable[[], object]:
        path = filled(start, unit)(size)
        rules = PathRules({"/admin/reports": Subject("CN=a"), "/": Subject("CN=b")})
        return lambda: rules.of(path)

    assert_grows_with_size(prepare, MAX_FIELD)


@pytest.mark.parametrize("unit", [",", ", ,", "1,", "[,", "10.0.0.7,", "10.0.0.7:", "x10.0.0.7:,", "[10.0.0.7,"])
@pytest.mark.parametrize("in_one_line", [True, False])
def test_no_list_of_forwarders_is_dear(unit: str, in_one_line: bool) -> None:
    """The peer's own address is known to whoever sends it."""

    def prepare(size: int) -> Callable[[], object]:
        each = size if in_one_line else 16
        fields = [(b"x-forwarded-for", filled("", unit)(each).encode())] * (size // each)
        scope = {"type": "http", "path": "/", "headers": fields, "client": ("10.0.0.7", 50_000)}
        return lambda: ASGIRequest(dict(scope)).peer

    assert_grows_with_size(prepare, MAX_FIELD)


@pytest.mark.parametrize("name", [b"h%d", b"x-ssl-client-cert"])
def test_no_number_of_header_fields_is_dear(name: bytes) -> None:
    def prepare(size: int) -> Callable[[], object]:
        fields = [(name % each if b"%" in name else name, b"") for each in range(size)]
        return lambda: ASGIRequest({"type": "http", "path": "/", "headers": fields}).place(KNOWN_HEADERS)

    assert_grows_with_size(prepare, 10_000)


NAMES: dict[str, tuple[Callable[[int], list[str]], int]] = {
    "combining marks": (lambda size: [filled("a", "\u0301\u0327")(size)], 40_000),
    "ligatures": (lambda size: [filled("", "\ufdfa")(size)], 30_000),
    "blanks": (lambda size: [filled("a", "  ")(size)], 90_000),
    "many": (lambda size: [str(number) for number in range(size)], 2_000),
    "as long as they are read": (lambda size: [filled("a", "\u0301\u0327")(size)], 4_000),
}


@pytest.mark.filterwarnings("ignore:Attribute's length:UserWarning")
@pytest.mark.parametrize("case", NAMES)
def test_no_name_is_dear_to_compare(case: str, mtls_ca: CertificateAuthority) -> None:
    made, most = NAMES[case]

    def prepare(size: int, read: Callable[[ClientCertificate], object]) -> Callable[[], object]:
        unit = NameOID.ORGANIZATIONAL_UNIT_NAME
        name = x509.Name([x509.NameAttribute(unit, text, _validate=False) for text in made(size)])
        der = mtls_ca.issue(name).der
        return lambda: read(_verified(der))

    for read in (Subject("CN=a").holds, (~Subject("CN=a")).holds, Issuer("CN=a").holds, repr):
        assert_grows_with_size(partial(prepare, read=read), most)


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
