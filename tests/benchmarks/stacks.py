"""What is measured: clients with certificate and token, and applications with the layers around them."""

import functools
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from types import ModuleType
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

import mtls_middleware.asgi
import mtls_middleware.wsgi
from mtls_middleware.policy import DNSName
from mtls_middleware.sources import ClientCertHeader, HeaderSource, Nginx
from mtls_middleware.testing import CertificateAuthority, IssuedCertificate, TokenIssuer
from tests.benchmarks.carriers import Pairs

MODULES: dict[str, ModuleType] = {"wsgi": mtls_middleware.wsgi, "asgi": mtls_middleware.asgi}
SCOPE = "invoices:read"
NAME = "billing.internal"
RULE = DNSName(NAME)
_TRUSTED = ("10.0.0.0/8",)


@dataclass(frozen=True, slots=True)
class Form:
    """One form of the certificate in header fields, and who reads it."""

    name: str
    source: Callable[[], HeaderSource]
    fields: Callable[[IssuedCertificate], dict[str, str]]


FORMS = (
    Form(
        "RFC 9440",
        lambda: ClientCertHeader(trusted_proxies=_TRUSTED, verified_by_proxy=True),
        IssuedCertificate.as_client_cert,
    ),
    Form("nginx", lambda: Nginx(trusted_proxies=_TRUSTED), IssuedCertificate.as_nginx),
)
RFC9440, NGINX = FORMS


@functools.cache
def authority() -> CertificateAuthority:
    return CertificateAuthority()


@functools.cache
def issuer() -> TokenIssuer:
    return TokenIssuer()


@functools.cache
def client() -> IssuedCertificate:
    return authority().issue("CN=billing,O=Acme", dns=[NAME])


def token(**claims: Any) -> str:
    """A new one, bound to `client()`; it outlives every run."""
    return issuer().token(
        certificate=client(), scopes=[SCOPE, "invoices:write"], claims=claims, lifetime=timedelta(days=1)
    )


def headers(form: Form, certificate: IssuedCertificate, text: str | None = None) -> Pairs:
    """The fields of one request."""
    bearer = () if text is None else (("Authorization", f"Bearer {text}"),)
    return [*form.fields(certificate).items(), *bearer]


def full_stack(gateway: str, app: Any, form: Form, **options: Any) -> Any:
    """Certificate layer, token layer, one rule, one scope."""
    usual = {"source": form.source(), "allow": RULE, "tokens": issuer().access_tokens(), "scopes": [SCOPE]}
    return MODULES[gateway].protect(app, **{**usual, **options})


def distinct(template: IssuedCertificate) -> Iterator[bytes]:
    """DER of certificates like this one, each with a serial number of its own. Their signatures do not verify."""
    der, serial = template.der, template.x509.serial_number
    octets = serial.to_bytes((serial.bit_length() + 7) // 8, "big")
    begin, end = der.split(octets, 1)
    for number in itertools.count(1):
        yield b"".join((begin, octets[:-8], number.to_bytes(8, "big"), end))


def loaded(der: bytes, key: Any) -> IssuedCertificate:
    return IssuedCertificate(x509.load_der_x509_certificate(der), key)


def drawn(endless: Iterator[Any], make: Callable[[Any], Any]) -> Callable[[int], Sequence[Any]]:
    """Inputs for rounds: each made of the next of `endless`."""
    return lambda number: [make(each) for each in itertools.islice(endless, number)]


def der_of(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.DER)
