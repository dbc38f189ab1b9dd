"""docs/tokens.md is true: its code runs, its table of profiles is the one in the code."""

import functools
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import redis

from mtls_middleware import resource_server, revocation
from mtls_middleware.resource_server.profiles import LEEWAY, PROFILES
from mtls_middleware.testing import CertificateAuthority
from tests.redis_server import RedisServer

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "tokens.md").read_text("utf-8")
EXTENSIONS = (ROOT / "docs" / "extending.md").read_text("utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


def test_every_block_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ca = CertificateAuthority()
    (tmp_path / "as-ca.pem").write_text(ca.pem)
    ours = ca.issue("CN=invoices-api")
    (tmp_path / "invoices-api.pem").write_text(ours.chain_pem)
    (tmp_path / "invoices-api.key").write_text(ours.key_pem)
    monkeypatch.chdir(tmp_path)
    assert len(BLOCKS) >= 10
    with RedisServer() as server:
        # The address on the page leads to the server of the test.
        real = functools.partial(redis.Redis, port=server.port)
        monkeypatch.setattr(redis, "Redis", lambda host, **options: real(**options))
        for block in BLOCKS:
            names: dict[str, object] = {"secret": "a secret"}
            exec(block, names)
            assert {"tokens", "cache", "revocations"} & names.keys()
        with real() as client:
            assert client.zcount("mtls_middleware:revoked", "-inf", 10**11) == 2


def test_the_commands_write_to_the_list_what_the_page_says(tmp_path: Path) -> None:
    (script,) = re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)
    (file,) = re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)
    (tmp_path / "revoked.jsonl").write_text(file)
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    with RedisServer() as server:
        here = f"redis://127.0.0.1:{server.port}/0"
        script = script.replace("rediss://revoker:secret@revocations.internal:6379/0", here)
        done = subprocess.run(
            ["sh", "-e"],
            input=script,
            capture_output=True,
            text=True,
            check=True,
            cwd=tmp_path,
            env={**os.environ, "PATH": path, "PYTHONPATH": str(ROOT)},
        )
    assert done.stdout == "revoked  2\nrevoked  1\nrevoked  1\nentries  4\nchanges  4\n"


def test_the_table_of_profiles_is_the_one_in_the_code() -> None:
    rows = {
        cells[0].strip('`"'): cells[1:]
        for line in re.findall(r'^\| `"\w+"` \|.*\|$', PAGE, re.MULTILINE)
        if (cells := [cell.strip() for cell in line.strip("|").split("|")])
    }
    assert rows.keys() == PROFILES.keys()
    fapi, lenient = rows["fapi2"], rows["without_explicit_typing"]
    assert set(fapi[0].split(", ")) == PROFILES["fapi2"].algorithms
    assert PROFILES["fapi2"].required - PROFILES["rfc9068"].required == {"cnf"}
    assert set(lenient[2].split(", ")) == PROFILES["without_explicit_typing"].required
    assert {each.strip("`").lower() for each in lenient[1].split(", ")} == PROFILES["without_explicit_typing"].typ
    for name, cells in rows.items():
        if "settable" in cells[3]:
            least, most = PROFILES[name].min_leeway, PROFILES[name].max_leeway
            assert cells[3] == f"{LEEWAY} s, settable from {least} to {most}"


def test_every_exported_name_is_documented() -> None:
    for name in {*resource_server.__all__, *revocation.__all__} - {"AccessToken"}:
        assert name in PAGE + EXTENSIONS
