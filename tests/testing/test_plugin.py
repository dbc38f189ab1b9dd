"""The pytest plugin: what its fixtures give, and that it asks nothing of a run that does not use them."""

import ast
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


def test_the_module_itself_imports_pytest_alone() -> None:
    """Plugins are loaded into every run, so all else waits until a fixture is asked for."""
    tree = ast.parse(Path(plugin.__file__).read_text("utf-8"))
    imported = [node for node in tree.body if isinstance(node, (ast.Import, ast.ImportFrom))]
    names = {node.module if isinstance(node, ast.ImportFrom) else node.names[0].name for node in imported}
    assert names == {"pytest", "typing"}


def test_the_distribution_registers_it() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text("utf-8"))["project"]
    assert plugin.__name__ in project["entry-points"]["pytest11"].values()
