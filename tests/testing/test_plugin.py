"""The pytest plugin: what its fixtures give, and that it asks nothing of a run that does not use them."""

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from mtls_middleware.testing import CertificateAuthority, IssuedCertificate, TokenIssuer, plugin


def test_fixtures_fit_together(
    mtls_ca: CertificateAuthority,
    mtls_client: IssuedCertificate,
    mtls_other_client: IssuedCertificate,
    mtls_issuer: TokenIssuer,
) -> None:
    for client, name in ((mtls_client, "client"), (mtls_other_client, "other")):
        client.x509.verify_directly_issued_by(mtls_ca.certificate)
        seen = client.client_certificate()
        assert seen.subject == f"CN={name},O=Tests"
        assert (seen.dns_names, seen.spiffe_id) == ((f"{name}.example.test",), f"spiffe://example.test/{name}")
    assert mtls_issuer.token(certificate=mtls_client)


def test_fixtures_are_made_once(mtls_ca: CertificateAuthority, request: pytest.FixtureRequest) -> None:
    assert request.getfixturevalue("mtls_ca") is mtls_ca


def modules_after(statement: str, *arguments: str) -> set[str]:
    """Top-level packages, and modules of this one, that a fresh interpreter has imported."""
    program = f"import sys; {statement}; print(*sys.modules)"
    run = subprocess.run([sys.executable, *arguments, "-c", program], capture_output=True, text=True, check=True)
    names = run.stdout.split()
    return {name for name in names if name.startswith("mtls_middleware")} | {name.partition(".")[0] for name in names}


def test_the_plugin_imports_nothing_until_a_fixture_is_asked_for() -> None:
    """It is loaded into every run of a user."""
    found = modules_after("import mtls_middleware.testing.plugin") - modules_after("import pytest")
    assert {name for name in found if name in sys.modules} == {
        "mtls_middleware",
        "mtls_middleware.lazy_exports",
        "mtls_middleware.testing",
        "mtls_middleware.testing.plugin",
    }


def test_a_run_of_pytest_with_the_plugin_imports_no_cryptography(tmp_path: Path) -> None:
    (tmp_path / "test_users.py").write_text(
        "import sys\n"
        "def test_it():\n"
        "    assert 'mtls_middleware.testing.plugin' in sys.modules\n"
        "    assert not {'cryptography', 'jwt', 'werkzeug', 'httpx2'} & set(sys.modules)\n"
    )
    options = ["-p", "mtls_middleware.testing.plugin", "-q", "-p", "no:cacheprovider", "--override-ini=addopts="]
    environment = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTEST_ADDOPTS": ""}
    run = subprocess.run(
        [sys.executable, "-m", "pytest", *options, "--rootdir", str(tmp_path), str(tmp_path)],
        capture_output=True,
        check=False,
        text=True,
        env=environment,
        cwd=tmp_path,
    )
    assert run.returncode == 0, run.stdout + run.stderr


@pytest.mark.parametrize("package", ["mtls_middleware", "mtls_middleware.testing"])
def test_importing_all_names_imports_their_modules(package: str) -> None:
    assert modules_after(f"from {package} import *") >= {"cryptography", "mtls_middleware.certificate"}


def test_the_distribution_registers_it() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text("utf-8"))["project"]
    assert plugin.__name__ in project["entry-points"]["pytest11"].values()
