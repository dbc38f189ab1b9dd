"""docs/extending.md is true: its code runs in front of an application."""

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from mtls_middleware import AccessToken, ClientCertificate
from mtls_middleware.testing import CertificateAuthority, IssuedCertificate
from tests.gateways import Request, send

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "extending.md").read_text("utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
AUTUMN, SPRING = datetime(2025, 11, 3, tzinfo=UTC), datetime(2025, 4, 3, tzinfo=UTC)


@pytest.fixture(scope="module")
def names() -> dict[str, Any]:
    names: dict[str, Any] = {}
    for block in BLOCKS:
        exec(block, names)
    return names


def issued(not_before: datetime) -> IssuedCertificate:
    authority = CertificateAuthority()
    return authority.issue(
        "CN=billing",
        uris=["spiffe://acme.internal/billing"],
        not_before=not_before,
        not_after=datetime(2040, 1, 1, tzinfo=UTC),
    )


def status(names: dict[str, Any], client: IssuedCertificate | None, **options: Any) -> int:
    rows = {} if client is None else {"secret": ("alice", client.thumbprint, 4e9), "old": ("a", client.thumbprint, 1e9)}
    headers = [("Authorization", f"Bearer {options['token']}")] if "token" in options else []
    extra = {} if client is None else {"our.client_cert": client.pem}
    result = send(
        "wsgi",
        lambda module, app: module.protect(
            app, source=names["OurServer"](), tokens=names["SessionTokens"](rows), allow=names["allow"]
        ),
        Request(headers=headers, extra=extra),
    )
    return result.status


def test_the_source_the_rule_and_the_tokens_protect_an_application(names: dict[str, Any]) -> None:
    client = issued(AUTUMN)
    assert status(names, client, token="secret") == 200
    assert status(names, client, token="old") == 401
    assert status(names, client, token="unknown") == 401
    assert status(names, client) == 401
    assert status(names, None, token="secret") == 403
    assert status(names, issued(SPRING), token="secret") == 403


def test_the_objects_are_those_of_the_library(names: dict[str, Any]) -> None:
    client = issued(AUTUMN)
    found = names["SessionTokens"]({"x": ("alice", client.thumbprint, 4e9)}).validate("x", 0.0)
    assert isinstance(found, AccessToken)
    assert names["issued_in_autumn"](ClientCertificate.from_pem(client.pem))
