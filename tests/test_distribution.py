"""What people install: the sdist is whole, and the wheel made from it works where nothing else is."""

import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with sdist and wheel; the wheel is built from the sdist."""
    out = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True)
    return out


def test_the_sdist_holds_what_a_packager_needs(built):
    with tarfile.open(next(built.glob("*.tar.gz"))) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    wanted = {
        "README.md",
        "CHANGELOG.md",
        "SECURITY.md",
        "LICENSE",
        "pyproject.toml",
        "docs/proxies.md",
        "samples/tour/__main__.py",
    }
    assert wanted | {"tests/run.sh", "tests/conftest.py", ".ci/environment", "samples/tour.sh"} <= names


def test_the_wheel_holds_the_package_alone(built):
    with zipfile.ZipFile(next(built.glob("*.whl"))) as archive:
        names = archive.namelist()
    assert "mtls_middleware/py.typed" in names
    assert {name.split("/")[0].split("-")[0] for name in names} == {"mtls_middleware"}


def test_the_wheel_installs_and_imports_in_an_empty_environment(built, tmp_path):
    environment = tmp_path / "environment"
    subprocess.run([sys.executable, "-m", "virtualenv", "--quiet", str(environment)], check=True)
    python = environment / ("Scripts" if sys.platform == "win32" else "bin") / "python"
    wheel = str(next(built.glob("*.whl")))
    subprocess.run([str(python), "-m", "pip", "install", "--quiet", wheel], check=True, cwd=tmp_path)
    code = (
        "import importlib.metadata as m, mtls_middleware.wsgi, mtls_middleware.asgi, mtls_middleware.resource_server\n"
        "from mtls_middleware.testing import CertificateAuthority, TokenIssuer\n"
        "from mtls_middleware.sources import Nginx, ServerTLS\n"
        "print(sorted(d.name.lower() for d in m.distributions()))"
    )
    result = subprocess.run([str(python), "-c", code], check=True, capture_output=True, text=True, cwd=tmp_path)
    assert "httpx2" not in result.stdout
    for name in ("werkzeug", "cryptography", "pyjwt", "asgiref"):
        assert name in result.stdout
