"""`docs/servers.md` is so: each command and each piece of code on it serves, and its table names what is there."""

import contextlib
import http.client
import re
import shlex
import tomllib
from importlib.metadata import distributions
from pathlib import Path

import pytest
from packaging.utils import canonicalize_name
from packaging.version import Version

import mtls_middleware.servers
from tests.live.servers import ROOT, free_port, running, tls_files
from tests.servers.clients import BILLING, CA, ask, expected
from tests.servers.kinds import KINDS, OLDEST, PINNED

PAGE = (ROOT / "docs" / "servers.md").read_text("utf-8")
# (section, kind of block, its text); what is Apache's and uWSGI's, embedded.py takes from the page
BLOCKS = [
    (title.partition("\n")[0], kind, text)
    for title in PAGE.split("\n## ")[1:]
    for kind, text in re.findall(r"```(sh|python)\n(.*?)```", title, re.DOTALL)
    if "uwsgi" not in text
]
WSGI = {"gunicorn, WSGI workers", "werkzeug", "cheroot"}
APPLICATIONS = {
    False: "from tests.servers.tls_applications import asgi as app\n",
    True: "from tests.live.applications import own_tls as app\n",
}


@pytest.mark.live
@pytest.mark.parametrize("block", BLOCKS, ids=[f"{title} {kind}" for title, kind, _ in BLOCKS])
def test_what_the_page_says_serves(block: tuple[str, str, str], tmp_path: Path) -> None:
    title, kind, text = block
    files, port = tls_files(CA, tmp_path), free_port()
    (tmp_path / "app.py").write_text(APPLICATIONS[title in WSGI])
    real = {"server.pem": "server.pem", "server.key": "server-key.pem", "clients.pem": "ca.pem"}
    for name, file in real.items():
        text = re.sub(rf"\b{re.escape(name)}", str(files / file), text)
    text = text.replace("0.0.0.0", "127.0.0.1").replace("8443", str(port))
    if kind == "python":
        (tmp_path / "serve.py").write_text(text)
        command = [str(tmp_path / "serve.py")]
    else:
        program, *arguments = shlex.split(text.replace("\\\n", " "))
        command = arguments if program == "python" else ["-m", program, *arguments]
        command += ["--no-control-socket"] if program == "gunicorn" else []
    with running(command, port, PYTHONPATH=f"{tmp_path}:{ROOT}"):
        assert ask(port)["certificate"] == expected(BILLING)
        assert ask(port, None)["certificate"] is None


@pytest.mark.live
def test_the_classes_serve_clear_text_behind_a_proxy_as_the_page_says(tmp_path: Path) -> None:
    (line,) = re.findall(r"```text\n(.*?)```", PAGE, re.DOTALL)
    (tmp_path / "app.py").write_text("from tests.servers.tls_applications import behind_nginx as app\n")
    port = free_port()
    with running(["-m", *shlex.split(line), "--port", str(port)], port, PYTHONPATH=f"{tmp_path}:{ROOT}"):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        with contextlib.closing(connection):
            connection.request("GET", "/", headers={"Connection": "Upgrade", "Upgrade": "h2c"})
            response = connection.getresponse()
            assert (response.status, response.getheader("Connection")) == (200, "close")


def test_each_module_and_each_section_is_in_the_table() -> None:
    table = [line for line in PAGE.splitlines() if line.startswith("| [")]
    linked = {anchor for line in table for anchor in re.findall(r"\(#([\w-]+)\)", line)}
    titles = set(re.findall(r"^## (.*)$", PAGE, re.MULTILINE)) - {"Upgrades and CONNECT", "Shutdown"}
    assert linked == {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}
    modules = {path.stem for path in Path(mtls_middleware.servers.__path__[0]).glob("*.py")}
    named = {name for line in table for name in re.findall(r"`servers\.(\w+)`", line)}
    assert named == modules - {"__init__", "extension", "interface", "upgrades"}


@pytest.mark.parametrize("package", sorted({kind.package for kind in KINDS.values() if kind.package in PINNED}))
def test_the_table_begins_with_the_release_that_is_pinned_as_the_oldest(package: str) -> None:
    rows = [line for line in PAGE.splitlines() if line.startswith(f"| [{package}")]
    oldest = {line.rstrip("| ").rpartition("| ")[2].split(" to ")[0] for line in rows}
    assert oldest == {PINNED[package].rpartition(".")[0]}


def test_the_oldest_environment_has_the_pinned_minimum_versions() -> None:
    found = distributions(path=[str(next(OLDEST.glob("lib/*/site-packages")))])
    installed = {canonicalize_name(each.name): each.version for each in found}
    assert {name: installed.get(name) for name in PINNED} == PINNED, "sh .ci/servers makes it"
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    for line in [*project["dependencies"], *project["optional-dependencies"]["uvicorn"]]:
        name, _, floor = line.partition(">=")
        assert Version(PINNED[name]) == Version(floor)


def test_names_that_the_page_takes_from_uvicorns_module_are_there() -> None:
    from mtls_middleware.servers import uvicorn_tls

    for name in ("H11", "HTTPTools", "Zttp", "HTTP2", "WebSockets", "WSProto"):
        assert f"`{name}`" in PAGE
        assert getattr(uvicorn_tls, name).__name__ == name
