"""The tutorials: their commands run in order in an empty folder, and print what the pages show."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.live.servers import ROOT, free_port

pytestmark = pytest.mark.live

FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
# Debian's Python has no ensurepip, so `python3 -m venv` fails there. After a command in the background, the shell waits
# until the server listens, as a reader does.
PRELUDE = """
set -eu
python3() { case "$1 $2" in "-m venv") "$PYTHON" -m virtualenv --quiet "$3";; *) command python3 "$@";; esac; }
wait_for() {
    for _ in $(seq 600); do (: <"/dev/tcp/127.0.0.1/$1") 2>/dev/null && return; sleep 0.1; done
    echo "nothing listens on port $1"; exit 1
}
set -m
trap 'kill $(jobs -p) 2>/dev/null || true; [ ! -s nginx.pid ] || kill $(cat nginx.pid)' EXIT
trap 'exit 1' TERM
"""


class Block(NamedTuple):
    """A code block of a page: a file to save, commands, or what the commands before it print."""

    language: str
    text: str


def blocks(page: str) -> list[Block]:
    """The blocks of a page, with free ports instead of those of the page."""
    text = (ROOT / "docs" / page).read_text("utf-8")
    ports = {"8443": str(free_port()), "8000": str(free_port())}
    text = re.sub(r"\b(8443|8000)\b", lambda port: ports[port[0]], text)
    return [Block(*found) for found in FENCE.findall(text)]


def script(page: list[Block]) -> str:
    lines = [PRELUDE]
    for position, block in enumerate(page):
        name = re.match(r"# (\S+?)(, at the end)?\n", block.text)
        if block.language == "sh":
            lines += [f"echo '== block {position}'", block.text]
            if block.text.endswith("&\n"):
                (port,) = re.findall(r"(?::|--port )(\d{5})\b", block.text)
                lines.append(f"wait_for {port}")
        elif block.language != "text":
            assert name is not None, block.text
            lines.append(f"cat {'>>' if name[2] else '>'}{name[1]} <<'END OF FILE'\n{block.text}END OF FILE")
    return "\n".join(lines)


def finished(command: str, folder: Path, wheel: Path) -> str:
    """Run the commands in a new folder, and return what they print. The shell ends its servers when it ends."""
    (folder / "constraints.txt").write_text(f"mtls-middleware @ {wheel.as_uri()}\n")
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "MTLS", "VIRTUAL"))
    }
    environment |= {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}:/usr/sbin",
        "PYTHON": sys.executable,
        "PIP_CONSTRAINT": str(folder / "constraints.txt"),
        "HOME": str(folder),
    }
    output = folder / "output.txt"
    with output.open("w") as log:
        shell = subprocess.Popen(
            ["bash", "-c", command], cwd=folder, env=environment, stdout=log, stderr=log, start_new_session=True
        )
        try:
            status = shell.wait(timeout=180)
        finally:
            shell.terminate()
            shell.wait(timeout=30)
    assert status == 0, output.read_text()
    return output.read_text()


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True)
    return next(out.glob("*.whl"))


def pattern(line: str) -> str:
    return ".*".join(re.escape(part) for part in line.split("..."))


@pytest.mark.parametrize("name", sorted(page.name for page in (ROOT / "docs").glob("tutorial-*.md")))
def test_each_command_of_a_tutorial_prints_what_the_page_shows(name: str, tmp_path: Path, wheel: Path) -> None:
    page = blocks(name)
    output = finished(script(page), tmp_path, wheel)
    printed = {
        int(position): text for position, text in re.findall(r"== block (\d+)\n(.*?)(?=== block|\Z)", output, re.DOTALL)
    }
    position = -1
    for each, block in enumerate(page):
        if block.language == "sh":
            position = each
        elif block.language == "text":
            for line in block.text.splitlines():
                assert re.search(pattern(line), printed[position]), (line, printed[position])
