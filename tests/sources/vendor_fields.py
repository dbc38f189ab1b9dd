"""How vendors write a certificate and their word about it."""

import base64
from collections.abc import Callable
from urllib.parse import quote

import pytest

from mtls_middleware import Verification
from mtls_middleware.sources import Apache, HAProxy, HeaderSource, Nginx
from mtls_middleware.testing import IssuedCertificate
from tests.gateways import Outcome
from tests.sources.requests import TRUST

CERT, WORD = "X-SSL-Client-Cert", "X-SSL-Client-Verify"
BY_PROXY, PRESENTED = Verification.BY_PROXY, Verification.PRESENTED

Through = Callable[..., Outcome]


def base64_der(certificate: IssuedCertificate) -> str:
    return base64.b64encode(certificate.der).decode("ascii")


def folded(certificate: IssuedCertificate) -> str:
    return certificate.pem.replace("\n", " ")


Written = Callable[[IssuedCertificate], str]
WORDED: dict[str, tuple[HeaderSource, Written]] = {
    "nginx": (Nginx(**TRUST), lambda each: quote(each.pem, safe="")),
    "apache": (Apache(**TRUST), folded),
    "haproxy": (HAProxy(**TRUST), base64_der),
}
worded = pytest.mark.parametrize("vendor", WORDED)


def word_fields(
    vendor: str, certificate: IssuedCertificate | None, *words: str
) -> tuple[HeaderSource, list[tuple[str, str]]]:
    source, written = WORDED[vendor]
    headers = [] if certificate is None else [(CERT, written(certificate))]
    return source, [*headers, *((WORD, word) for word in words)]
