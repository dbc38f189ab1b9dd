"""docs/checks.md: its tables and examples are what the commands do."""

import json
import os
import re
from pathlib import Path

import pytest

from mtls_middleware.cli import recorded_request
from mtls_middleware.cli.main import COMMANDS, main
from mtls_middleware.testing import CertificateAuthority
from tests.live.servers import free_port, running, tls_files

PAGE = (Path(__file__).resolve().parents[1] / "docs" / "checks.md").read_text("utf-8")


def test_the_table_of_members_is_complete() -> None:
    section = PAGE[PAGE.index("## explain") :]
    assert re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE) == list(recorded_request._MEMBERS)


def test_the_example_of_a_request_is_one(tmp_path: Path) -> None:
    (text,) = re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)
    (tmp_path / "request.json").write_text(text)
    found = recorded_request.read(tmp_path / "request.json")
    assert (found.peer, found.path, len(found.headers)) == ("10.0.0.7", "/invoices?year=2026", 2)
    assert json.loads(text)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_json(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([command, "--help"])
    assert ended.value.code == 0
    assert "--json" in capsys.readouterr().out


@pytest.mark.live
def test_the_worker_of_the_page_hands_over_the_certificate(tmp_path: Path) -> None:
    authority = CertificateAuthority()
    files = tls_files(authority, tmp_path)
    authority.issue("CN=allowed").write(files)
    (worker,) = re.findall(r"```python\n# workers.py\n(.*?)```", PAGE, re.DOTALL)
    (tmp_path / "workers.py").write_text(worker)
    port = free_port()
    command = ["-m", "gunicorn", "tests.cli.applications:protected", "--bind", f"127.0.0.1:{port}"]
    command += ["--certfile", f"{files}/server.pem", "--keyfile", f"{files}/server-key.pem", "--no-control-socket"]
    command += ["--ca-certs", f"{files}/ca.pem", "--cert-reqs", "1", "--worker-class", "workers.Worker"]
    path = os.pathsep.join([str(tmp_path), str(Path(__file__).resolve().parents[1])])
    with running(command, port, PYTHONPATH=path):
        import httpx2

        with httpx2.Client(verify=authority.client_context(), base_url=f"https://localhost:{port}") as stranger:
            assert stranger.get("/").status_code == 403
        context = authority.client_context()
        context.load_cert_chain(files / "client.pem", files / "client-key.pem")
        with httpx2.Client(verify=context, base_url=f"https://localhost:{port}") as client:
            assert client.get("/").status_code == 200
