"""What docs/validation.md shows works, as it stands there."""

import re
import types
from pathlib import Path

import pytest

from mtls_middleware.testing import CertificateAuthority
from mtls_middleware.validation import OCSP, RevocationLists, TrustStore
from tests.validation.authority import crl

TEXT = (Path(__file__).resolve().parents[2] / "docs" / "validation.md").read_text("utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)


@pytest.mark.parametrize("block", BLOCKS, ids=range(len(BLOCKS)))
def test_every_block_works(block, tmp_path, monkeypatch):
    ca = CertificateAuthority()
    now = 1_790_000_000
    (tmp_path / "crls").mkdir()
    for name in ("clients-ca.pem", "partner.pem", "bundle.json"):
        (tmp_path / name).write_text(ca.pem)
    for name in ("clients-ca.crl", "crls/other.crl"):
        (tmp_path / name).write_bytes(crl(ca, now=now))
    monkeypatch.chdir(tmp_path)
    app = types.SimpleNamespace(wsgi_app=lambda environ, start_response: [])
    exec(
        block.replace("/run/spire/", ""),
        {"app": app, **{each.__name__: each for each in (OCSP, RevocationLists, TrustStore)}},
    )
    assert len(BLOCKS) == 7
