"""Programs of users pass type checkers, with the oldest and the newest releases of their frameworks."""

import inspect
import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from mtls_middleware import asgi, wsgi

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = Path(sys.executable).parent
PROGRAMS = sorted((ROOT / "tests" / "typed" / "programs").glob("*.py"))
PAGE = ROOT / "docs" / "extending.md"
# With the newest and the oldest releases of the frameworks.
ENVIRONMENTS = {"newest": sys.executable, "oldest": ROOT / ".venv.frameworks" / "bin" / "python"}
# mypy rejects every assignment to a method, and Flask and Quart declare these two as methods (docs/extending.md).
REPLACED_METHOD = re.compile(r"^\w+\.(wsgi_app|asgi_app) = ")


def run(*arguments: str | Path, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, **variables}
    return subprocess.run(arguments, capture_output=True, text=True, cwd=ROOT, env=environment, check=False)


def checker(name: str) -> str:
    """The program of this interpreter's environment."""
    return str(SCRIPTS / name)


@pytest.fixture
def programs(tmp_path: Path) -> list[Path]:
    """The programs, and one that is made of the page's code."""
    code = "\n".join(re.findall(r"```python\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL))
    imports = "from flask import Flask\nfrom mtls_middleware.wsgi import protect\n"
    last = 'protected = protect(Flask("shop"), source=OurServer(), tokens=SessionTokens({}), allow=allow)\n'
    page = tmp_path / "extending.py"
    page.write_text(f"# pyright: strict\n{imports}{code}{last}", "utf-8")
    return [*PROGRAMS, page]


@pytest.mark.parametrize("python", ENVIRONMENTS.values(), ids=ENVIRONMENTS)
def test_mypy_rejects_nothing_but_the_replaced_methods(
    python: str | Path, programs: list[Path], tmp_path: Path
) -> None:
    options = ["--strict", "--follow-imports=silent", "--config-file=", "--no-error-summary", "--hide-error-context"]
    done = run(checker("mypy"), *options, "--python-executable", python, "--cache-dir", tmp_path / "cache", *programs)
    expected = [
        f"{path.relative_to(ROOT)}:{number}: error: Cannot assign to a method  [method-assign]"
        for path in PROGRAMS
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1)
        if REPLACED_METHOD.match(line.strip())
    ]
    assert sorted(done.stdout.splitlines()) == sorted(expected), done.stderr
    assert len(expected) == 4


@pytest.mark.parametrize("python", ENVIRONMENTS.values(), ids=ENVIRONMENTS)
def test_pyright_rejects_nothing(python: str | Path, programs: list[Path]) -> None:
    done = run(checker("pyright"), "--pythonpath", python, *programs)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_program_that_is_wrong_fails_both(tmp_path: Path) -> None:
    """Misspelt names, wrong keywords, and an optional certificate that is used as if it were there."""
    wrong = tmp_path / "wrong.py"
    wrong.write_text(
        "# pyright: strict\n"
        "from flask import Flask, request\n"
        "from mtls_middleware import client_certificate, client_certifikate\n"
        "from mtls_middleware.sources import ServerTLS\n"
        "from mtls_middleware.wsgi import protect\n"
        "protect(Flask('shop'), source=ServerTLS(), allowed=None)\n"
        "protect(Flask('shop'), source='nginx')\n"
        "print(client_certificate(request).subject)\n"
    )
    mypy = run(checker("mypy"), "--strict", "--follow-imports=silent", "--config-file=", wrong)
    pyright = run(checker("pyright"), wrong)
    for done in (mypy, pyright):
        for line in (3, 6, 7, 8):
            assert re.search(rf"wrong\.py:{line}\b", done.stdout), done.stdout + done.stderr


def test_every_public_type_is_known(tmp_path: Path) -> None:
    """Without `--ignoreexternal`, the types of `cryptography` and other packages would count as well."""
    path = f"{SCRIPTS}{os.pathsep}{os.environ['PATH']}"
    options = ["--verifytypes", "mtls_middleware", "--ignoreexternal"]
    done = subprocess.run(
        [checker("pyright"), *options],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PATH": path},
        check=False,
    )
    assert "Type completeness score: 100%" in done.stdout, done.stdout + done.stderr


@pytest.mark.parametrize("gateway", [wsgi, asgi], ids=["wsgi", "asgi"])
@pytest.mark.parametrize(
    "name",
    ["protect", "ClientCertificateMiddleware", "CertificateBoundTokenMiddleware", "ClientAuthenticationMiddleware"],
)
def test_help_describes_every_argument(gateway: ModuleType, name: str) -> None:
    described = getattr(gateway, name)
    text = inspect.getdoc(described) or ""
    for argument in inspect.signature(described).parameters:
        assert re.search(rf"^    (\w+, )*{argument}(, \w+)*: ", text, re.MULTILINE), argument
    for heading in ("Arguments:", "Raises `ConfigurationError`", "Example:"):
        assert heading in text
