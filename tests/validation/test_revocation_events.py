"""Warnings about revocation lists near their end, and events for metrics about servers that fail."""

import logging
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding

from mtls_middleware import dependencies
from mtls_middleware.effects.flow import BlockingDriver
from mtls_middleware.errors import Unavailable
from mtls_middleware.jwks import FetchedKeys
from mtls_middleware.resource_server import IntrospectedAccessTokens
from mtls_middleware.testing import CertificateAuthority
from mtls_middleware.validation import RevocationLists, TrustStore
from tests.live.servers import free_port


@pytest.fixture
def events() -> Any:
    found: list[tuple[str, str]] = []
    stop = dependencies.observe(lambda event, reason: found.append((event, reason)))
    yield found
    stop()


def crl_file(folder: Path, authority: CertificateAuthority, begin: timedelta, end: timedelta) -> Path:
    now = datetime.now(UTC)
    builder = x509.CertificateRevocationListBuilder(authority.certificate.subject, now + begin, now + end)
    number = x509.CRLNumber(int(time.time_ns()))
    found = builder.add_extension(number, critical=False).sign(authority.key, SHA256())
    file = folder / "clients.crl"
    file.write_bytes(found.public_bytes(Encoding.PEM))
    return file


@pytest.mark.parametrize(
    ("period", "warned"),
    [((-9.5, 0.4), True), ((-1, 9), False), ((-8, 2), False), ((-0.95, 0.05), True)],
)
def test_a_list_in_the_last_tenth_of_its_period_is_one_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, events: Any, period: Any, warned: bool
) -> None:
    authority = CertificateAuthority()
    file = crl_file(tmp_path, authority, *(timedelta(days=days) for days in period))
    store = TrustStore([authority.certificate], revocation=RevocationLists([file]))
    with caplog.at_level(logging.WARNING, "mtls_middleware"):
        for _ in range(3):
            client = authority.issue().client_certificate()
            BlockingDriver().run(store.validate(client, time.time()))
    lines = [each for each in caplog.messages if "revocation list expires in" in each]
    assert len(lines) == int(warned)
    assert [event for event, _ in events] == ["revocation_list_ending"] * int(warned)


def test_servers_that_cannot_be_reached_are_events(events: Any) -> None:
    address = f"http://127.0.0.1:{free_port()}/"
    keys = FetchedKeys(address + "jwks", allow_http=True, tls=None)
    with pytest.raises(Unavailable):
        BlockingDriver().run(keys.current(time.time()))
    tokens = IntrospectedAccessTokens(
        endpoint=address + "introspect", client_id="api", client_secret="s" * 32, allow_http=True
    )
    with pytest.raises(Unavailable):
        BlockingDriver().run(tokens.validate("a-token-of-a-client", time.time()))
    assert [event for event, _ in events] == ["keys_failed", "introspection_failed"]
    assert "a-token-of-a-client" not in repr(events)
    assert "s" * 32 not in repr(events)
