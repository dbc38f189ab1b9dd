"""The documentation site: it builds without a warning or a broken link, and its reference has every public name."""

import importlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
MODULES = [
    f"mtls_middleware{suffix}"
    for suffix in (
        "",
        ".wsgi",
        ".asgi",
        ".sources",
        ".validation",
        ".policy",
        ".revocation",
        ".resource_server",
        ".token_endpoint",
        ".client",
        ".testing",
    )
]
LAYERS = ("ClientCertificateMiddleware", "CertificateBoundTokenMiddleware", "ClientAuthenticationMiddleware", "protect")


def build(pages: Path, out: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHON": sys.executable, "PYTHONPATH": str(ROOT)}
    command = ["sh", str(pages / "build.sh"), str(out)]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


def public_names() -> set[str]:
    names = set()
    for module in MODULES:
        exported = getattr(importlib.import_module(module), "__all__", LAYERS)
        names |= {f"{module}.{name}" for name in exported}
    return names


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("site") / "html"
    done = build(DOCS, out)
    assert done.returncode == 0, done.stderr
    return out


@pytest.mark.live
def test_the_site_has_every_page_and_a_search(site: Path) -> None:
    for page in DOCS.rglob("*.md"):
        assert (site / page.relative_to(DOCS).with_suffix(".html")).is_file(), page
    # The words of the index are stems.
    assert "client_certificate_refus" in (site / "searchindex.js").read_text("utf-8")


@pytest.mark.live
def test_the_reference_has_every_public_name(site: Path) -> None:
    from sphinx.util.inventory import InventoryFile

    with (site / "objects.inv").open("rb") as file:
        inventory = InventoryFile.load(file, "", lambda folder, page: page)
    documented = {name for kind, names in inventory.items() if kind.startswith("py:") for name in names}
    elsewhere = {"mtls_middleware.resource_server.AccessToken", "mtls_middleware.token_endpoint.RegisteredClient"}
    assert public_names() - documented == elsewhere


@pytest.mark.live
def test_the_reference_links_to_the_source(site: Path) -> None:
    assert "_modules/mtls_middleware/policy/identities.html" in (site / "reference" / "policy.html").read_text("utf-8")


@pytest.mark.live
@pytest.mark.parametrize(
    ("text", "is_sound"),
    [
        ("# Title\n\n[other](other.md#part)", True),
        ("# Title\n\n[other](gone.md)", False),
        ("# Title\n\n[other](other.md#gone)", False),
        ("# Title\n\n### A level is missing", False),
    ],
)
def test_a_broken_link_or_a_warning_fails_the_build(text: str, is_sound: bool, tmp_path: Path) -> None:
    pages = tmp_path / "docs"
    pages.mkdir()
    for name in ("build.sh", "conf.py"):
        shutil.copy(DOCS / name, pages)
    shutil.copytree(DOCS / "static", pages / "static")
    (pages / "other.md").write_text("# Other\n\n## Part\n")
    (pages / "index.md").write_text(f"{text}\n\n```{{toctree}}\nother\n```\n")
    assert (build(pages, tmp_path / "html").returncode == 0) is is_sound
