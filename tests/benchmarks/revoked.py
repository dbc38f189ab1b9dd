"""Long lists of what was revoked: a CRL, a set in Redis."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding

from mtls_middleware.errors import Unavailable
from mtls_middleware.revocation import RedisRevocations
from mtls_middleware.revocation.entries import token_entry
from mtls_middleware.testing import CertificateAuthority
from tests.redis_server import RedisServer

_ISSUER = "https://as.example"


def list_of(authority: CertificateAuthority, number: int) -> bytes:
    """DER of a CRL with so many serial numbers."""
    now = datetime.now(UTC)
    one = x509.RevokedCertificateBuilder().revocation_date(now)
    # At once: add_revoked_certificate() copies the whole list each time.
    builder = x509.CertificateRevocationListBuilder(
        issuer_name=authority.certificate.subject,
        last_update=now - timedelta(hours=1),
        next_update=now + timedelta(days=1),
        revoked_certificates=[one.serial_number(each + 1).build() for each in range(number)],
    ).add_extension(x509.CRLNumber(1), critical=False)
    return builder.sign(authority.key, SHA256()).public_bytes(Encoding.DER)


@contextmanager
def in_redis(number: int) -> Iterator[RedisRevocations]:
    """A real Redis with so many revoked ids, and a process (this one) that knows them all."""
    until = datetime.now(UTC) + timedelta(days=1)
    with RedisServer() as server:
        client = server.client(socket_timeout=1)
        revocations = RedisRevocations(client)
        revocations.create({"token_id": str(each), "issuer": _ISSUER, "until": until} for each in range(number))
        while not _is_known(revocations, str(number - 1)):
            time.sleep(0.1)
        yield revocations
        client.close()


def _is_known(revocations: RedisRevocations, token_id: str) -> bool:
    try:
        return token_entry(_ISSUER, token_id) in revocations
    except Unavailable:  # the first reading takes its time
        return False
