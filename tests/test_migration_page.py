"""docs/migration.md: its three applications accept and reject what the page says."""

import logging
import re
from pathlib import Path
from typing import Any

import pytest

from mtls_middleware.testing import CertificateAuthority

PAGE = (Path(__file__).resolve().parents[1] / "docs" / "migration.md").read_text("utf-8")
FILES = dict(re.findall(r"```python\n# (\w+)\.py\n(.*?)```", PAGE, re.DOTALL))
CA = CertificateAuthority()
BILLING, SHIPPING = CA.issue("CN=billing,O=Acme"), CA.issue("CN=shipping,O=Acme")
OLD = {"Old-Client-Verify": "SUCCESS", "Old-Client-Subject": "CN=billing,O=Acme"}


@pytest.fixture(autouse=True)
def secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MTLS_PROXY_SECRET", "secret-of-the-proxy-of-the-page")


def application(name: str) -> dict[str, Any]:
    names: dict[str, Any] = {"__name__": name}
    exec(FILES[name], names)
    return names


def test_every_client_can_send_the_headers_of_the_old_application() -> None:
    client = application("before")["app"].test_client()
    forged = {"X-SSL-Client-Verify": "SUCCESS", "X-SSL-Client-S-DN": "CN=billing,O=Acme"}
    assert client.get("/", headers=forged).status_code == 200
    assert client.get("/").status_code == 403


@pytest.mark.parametrize(
    ("certificate", "old", "status", "differs"),
    [
        (BILLING, OLD, 200, False),
        (SHIPPING, {}, 403, False),
        (BILLING, {}, 403, True),
        (SHIPPING, OLD, 200, True),
    ],
)
def test_the_old_check_decides_and_the_log_shows_differences(
    certificate: Any, old: dict[str, str], status: int, differs: bool, caplog: pytest.LogCaptureFixture
) -> None:
    names = application("during")
    environ = certificate.for_source(names["source"]).environ
    response = names["app"].test_client().get("/", headers=old, environ_overrides=environ)
    assert response.status_code == status
    lines = [record for record in caplog.records if record.name == "root" and record.levelno == logging.WARNING]
    assert bool(lines) is differs


def test_the_rule_of_the_new_application_decides() -> None:
    names = application("after")
    for certificate, status in ((BILLING, 200), (SHIPPING, 403)):
        environ = certificate.for_source(names["source"]).environ
        assert names["app"].test_client().get("/", environ_overrides=environ).status_code == status
    assert names["app"].test_client().get("/", headers=OLD).status_code == 403
