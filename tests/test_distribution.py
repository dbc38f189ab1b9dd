"""What people install: the sdist is whole, and the wheel made from it works where nothing else is."""

import os
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

import mtls_middleware

ROOT = Path(__file__).resolve().parents[1]


def build(out: Path, root: Path) -> Path:
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), str(root)]
    subprocess.run(command, check=True, capture_output=True)
    return out


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with sdist and wheel; the wheel is built from the sdist."""
    return build(tmp_path_factory.mktemp("dist"), ROOT)


@pytest.mark.live
def test_a_build_from_the_sdist_in_another_folder_is_identical(built, tmp_path):
    """And at another time, with another umask."""
    with tarfile.open(next(built.glob("*.tar.gz"))) as archive:
        archive.extractall(tmp_path / "source", filter="data")
    (root,) = (tmp_path / "source").iterdir()
    for path in root.rglob("*"):
        path.touch()
    before = os.umask(0o077)
    try:
        again = build(tmp_path / "dist", root)
    finally:
        os.umask(before)
    for first in built.iterdir():
        assert (again / first.name).read_bytes() == first.read_bytes(), first.name


@pytest.mark.live
def test_the_distributions_pass_the_checks_of_the_index(built):
    scripts = Path(sys.executable).parent
    wheel, sdist = next(built.glob("*.whl")), next(built.glob("*.tar.gz"))
    for command in (["twine", "check", "--strict", wheel, sdist], ["check-wheel-contents", wheel]):
        done = subprocess.run(
            [scripts / command[0], *command[1:]], capture_output=True, text=True, cwd=ROOT, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr


def test_the_version_has_one_place(built):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert "version" not in project
    assert next(built.glob("*.whl")).name.startswith(f"mtls_middleware-{mtls_middleware.__version__}-")
    assert f"## [{mtls_middleware.__version__}]" in (ROOT / "CHANGELOG.md").read_text("utf-8")


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
