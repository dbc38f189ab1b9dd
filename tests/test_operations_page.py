"""docs/operations.md is true: its code runs, and its table has the keys that records have."""

import re
from pathlib import Path
from typing import Any

import pytest

from mtls_middleware.integrations import telemetry
from mtls_middleware.layers import decisions
from mtls_middleware.sources import ServerTLS
from mtls_middleware.testing import IssuedCertificate, TokenIssuer
from tests.gateways import Request, send

PAGE = (Path(__file__).resolve().parents[1] / "docs" / "operations.md").read_text("utf-8")


def test_the_table_has_every_key_and_no_other(mtls_client: IssuedCertificate, mtls_issuer: TokenIssuer) -> None:
    report: list[Any] = []
    stop = decisions.observe(report.append)
    try:
        for certificate in (mtls_client, None):
            headers = [("Authorization", f"Bearer {mtls_issuer.token(certificate=mtls_client)}")]
            send(
                "wsgi",
                lambda module, app: module.protect(app, source=ServerTLS(), tokens=mtls_issuer.access_tokens()),
                Request(tls=certificate, headers=headers),
            )
    finally:
        stop()
    assert [each["outcome"] for each in report] == ["allowed", "refused"]
    cells = re.findall(r"^\| ((?:`\w+`(?:, )?)+) \|", PAGE, re.MULTILINE)
    written = {name for cell in cells for name in re.findall(r"`(\w+)`", cell)}
    assert written == report[0].keys() | report[1].keys()


def test_the_code_measures(monkeypatch: pytest.MonkeyPatch) -> None:
    ends: list[Any] = []
    observe = telemetry.observe

    def kept(*arguments: Any) -> Any:
        ends.append(observe(*arguments))
        return ends[0]

    monkeypatch.setattr(telemetry, "observe", kept)
    (block,) = (each for each in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL) if "telemetry" in each)
    exec(block, {})
    ends[0]()


def test_metrics_and_attributes_are_those_of_the_page() -> None:
    labels = re.search(r"a counter, by (.*?) \|", PAGE)
    assert labels is not None
    assert tuple(re.findall(r"`(\w+)`", labels[1])) == telemetry._LABELS
    attributes = re.search(r"attributes of the current span \| (.*?) \|", PAGE)
    assert attributes is not None
    assert tuple(re.findall(r"\.(\w+)`", attributes[1])) == (*telemetry._ATTRIBUTES, "sha256")
