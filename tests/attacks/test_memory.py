"""What endless different values may leave in memory, where each is as large as one may be."""

import gc
import time
import tracemalloc
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from mtls_middleware import ClientCertificate, Verification
from mtls_middleware.asgi_request import ASGIRequest
from mtls_middleware.effects import BlockingDriver
from mtls_middleware.sources import Nginx
from mtls_middleware.testing import CertificateAuthority, IssuedCertificate
from mtls_middleware.validation import TrustStore
from mtls_middleware.wsgi_request import WSGIRequest

LARGE, MANY = 60_000, 1_500


@pytest.fixture(scope="module")
def ballast() -> bytes:
    """A certificate of `LARGE` octets, without the last eight of its signature."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    unknown = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.55555.1"), bytes(LARGE))
    name = x509.Name([])
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, now, now + timedelta(days=1), [])
    return builder.add_extension(unknown, critical=False).sign(key, hashes.SHA256()).public_bytes(Encoding.DER)[:-8]


def many(ballast: bytes, number: int = MANY) -> Iterator[bytes]:
    return (ballast + each.to_bytes(8, "big") for each in range(number))


def held(fill: Callable[[], object]) -> int:
    """Octets that are still there afterwards."""
    gc.collect()
    tracemalloc.start()
    try:
        fill()
        gc.collect()
        return tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()


def test_a_trust_store_keeps_no_large_chains(
    ballast: bytes, mtls_ca: CertificateAuthority, mtls_client: IssuedCertificate
) -> None:
    """Whoever has one good certificate may present what he likes beside it."""
    store, leaf = TrustStore([mtls_ca.certificate]), mtls_client.client_certificate(Verification.PRESENTED)

    def fill() -> None:
        for each in many(ballast, 200):
            presented = ClientCertificate.from_der(leaf.der, chain=(each,))
            assert BlockingDriver().run(store.validate(presented, time.time())).verified

    assert held(fill) < 1_000_000


def test_addresses_from_client_headers_are_not_cached() -> None:
    """uvicorn and waitress take over whatever X-Forwarded-For says, where they are told to, be it 60 kB."""
    source = Nginx(trusted_proxies=["10.0.0.0/8"])

    def fill() -> None:
        for number in range(500):
            address = f"{number}{'x' * LARGE}"
            headers = [(b"x-forwarded-for", address.encode())]
            assert source.find(ASGIRequest({"headers": headers, "client": (address, 0)})) is None
            environ = {"REMOTE_ADDR": address, "waitress.client_disconnected": bool, "HTTP_X_FORWARDED_FOR": address}
            assert source.find(WSGIRequest(environ)) is None

    assert held(fill) < 1_000_000
