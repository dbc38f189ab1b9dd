"""Lists of revocations as tests make and ask them."""

from datetime import UTC, datetime, timedelta
from typing import Any

from mtls_middleware import Verification
from mtls_middleware.errors import Unavailable
from mtls_middleware.revocation import RedisRevocations
from mtls_middleware.revocation.poller import RevocationListPoller
from mtls_middleware.testing import CertificateAuthority, IssuedCertificate
from tests.key_server import until
from tests.redis_server import RedisServer

KEY = "mtls_middleware:revoked"
AUTHORITY = CertificateAuthority()
BILLING = AUTHORITY.issue("CN=billing", uris=["spiffe://acme.internal/billing"])
SOON = datetime.now(UTC) + timedelta(hours=1)


def following(server: RedisServer, **options: Any) -> RedisRevocations:
    """As a process that has just started: nothing is read yet."""
    return RedisRevocations(server.client(socket_timeout=1, socket_connect_timeout=1), **options)


def new_list(server: RedisServer, **options: Any) -> RedisRevocations:
    """With a list, and the list read."""
    found = following(server, **options)
    found.create()
    until(lambda: includes(found, BILLING) is False, seconds=20)
    return found


def entries(poller: RevocationListPoller) -> dict[bytes, int]:
    """The entries that a process has read, and the times until which they are valid."""
    return {entry: time for shard in poller.revoked for entry, time in shard.items()}


def includes(revocations: RedisRevocations, certificate: IssuedCertificate) -> bool | str:
    """Whether the certificate is on the list, as a rule sees it; "503" where that cannot be known."""
    verified = certificate.client_certificate(Verification.BY_SERVER)
    try:
        return not revocations.not_revoked.holds(verified)
    except Unavailable:
        return "503"
