"""waitress behind a proxy, started by the line of docs/frameworks.md."""

import json
import re
import shlex
import sys
from pathlib import Path

import pytest

from tests.live.servers import ROOT, free_port
from tests.proxies import matrix, programs
from tests.proxies.conftest import options_for, until_it_answers
from tests.proxies.matrix import Setup
from tests.proxies.test_frameworks import MODULE, Browser

PAGE = (ROOT / "docs" / "frameworks.md").read_text("utf-8")
pytestmark = [pytest.mark.live]


def test_flasks_urls_are_those_of_the_client_under_waitress(server_files: Path, tmp_path: Path):
    upstream, port = free_port(), free_port()
    made = options_for(Setup("nginx", "idiomatic", "optional", "gunicorn"), port, upstream, server_files)
    (line,) = re.findall(r"```sh\n(waitress-serve .*?)```", PAGE, re.DOTALL)
    words = shlex.split(line.replace("\\\n", " "))
    assert words[-1] == "shop.wsgi:application"
    command = [sys.executable, "-m", "waitress", *words[1:-1], f"--listen=127.0.0.1:{upstream}"]
    source = made.source()
    assert 'trusted_proxies=["127.0.0.1"], ' in source
    environment = {
        "SOURCE": source.replace('trusted_proxies=["127.0.0.1"], ', ""),
        "DATABASE": str(tmp_path / "db"),
        **programs.environment(made),
    }
    with (
        programs.started([*command, f"{MODULE}:wsgi_application"], upstream, ROOT, **environment),
        programs.proxy(made, tmp_path),
    ):
        until_it_answers(port, "/about/start")
        about = json.loads(Browser(port).send("GET", "/about/me")[1])
    assert about["url"] == f"https://localhost:{port}/about/me"
    assert about["address"] == "127.0.0.1"
    assert about["thumbprint"] == matrix.certificate("RSA").thumbprint
