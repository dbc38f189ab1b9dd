"""The checks that CI runs on other machines, by hand: `nox --list`, then for example `nox --session types`.

`sh tests/run.sh` is the whole suite on one Python, with every server and proxy.
"""

import hashlib
import json
import shutil
from pathlib import Path

import nox

nox.options.default_venv_backend = "virtualenv"
nox.options.sessions = ["lint", "types", "build"]
nox.options.error_on_missing_interpreters = True

PYTHONS = ["3.11", "3.12", "3.13", "3.14"]
# Tests that start no server, proxy or type checker of other environments. Many of them wait, so there are more
# processes than most machines have cores.
IN_PROCESS = ("-m", "not live", "--ignore=tests/typed/test_programs.py", "--numprocesses=4", "--dist=worksteal")


@nox.session(python=PYTHONS)
def in_process(session: nox.Session) -> None:
    """The tests that start no server and no proxy."""
    session.install("--editable", ".[all]", "--group", "test")
    session.run("python", "-m", "pytest", *IN_PROCESS, *session.posargs)


@nox.session(python="3.13", venv_backend="uv")
@nox.parametrize("versions", ["oldest", "newest"], ids=["oldest", "newest"])
def dependencies(session: nox.Session, versions: str) -> None:
    """The same with the oldest or the newest releases that pyproject.toml admits."""
    resolution = "lowest-direct" if versions == "oldest" else "highest"
    session.install(f"--resolution={resolution}", "--editable", ".[all]", "--group", "test")
    # Old frameworks use what new releases of their own dependencies have deprecated. cryptography 46 takes minutes for
    # some graphs of CAs in the reference data (x509-limbo), which clients cannot present.
    options = ("-m", "not live and not shared", "-W", "ignore::DeprecationWarning")
    if versions == "oldest":
        # cryptography 46 makes no ML-DSA keys, and gives other reasons for constraints on directory names.
        options += ("--ignore=tests/test_ml_dsa.py", "--ignore=tests/validation/test_pkits.py")
    session.run("python", "-m", "pytest", *IN_PROCESS, *options, *session.posargs)


@nox.session(python="3.11")
def lint(session: nox.Session) -> None:
    """Style and formatting."""
    session.install("--group", "check")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")


@nox.session(python="3.11")
def types(session: nox.Session) -> None:
    """Types of the package, complete for users, and of users' programs."""
    session.install("--editable", ".[all]", "--group", "dev")
    session.run("mypy")
    session.run("python", "-m", "pytest", "tests/typed", "-k", "not oldest", *session.posargs)


@nox.session(python="3.11")
def docs(session: nox.Session) -> None:
    """What README, docs and docstrings say is true: the code runs, the tables are complete, the site builds."""
    session.install("--editable", ".[all]", "--group", "test", "--group", "docs")
    pages = [str(each) for each in Path("tests").rglob("test_*_page.py")]
    session.run("python", "-m", "pytest", "tests/test_documentation.py", "tests/test_site.py", *pages, *session.posargs)


@nox.session(python="3.11")
def build(session: nox.Session) -> None:
    """The distributions in dist/: built twice, equal, checked, and with a list of what they need (SBOM)."""
    session.install("--group", "release")
    shutil.rmtree("dist", ignore_errors=True)
    again = Path(session.create_tmp())
    for folder in (Path("dist"), again):
        session.run("python", "-m", "build", "--no-isolation", "--outdir", str(folder))
    for path in sorted(Path("dist").iterdir()):
        if hashlib.sha256(path.read_bytes()).digest() != hashlib.sha256((again / path.name).read_bytes()).digest():
            session.error(f"two builds of {path.name} differ")
    session.run("twine", "check", "--strict", *map(str, Path("dist").iterdir()))
    wheel = str(next(Path("dist").glob("*.whl")))
    session.run("check-wheel-contents", wheel)
    environment = again / "environment"
    python = str(environment / "bin" / "python")
    session.run("python", "-m", "virtualenv", "--quiet", "--clear", "--no-seed", str(environment))
    session.run("python", "-m", "pip", "--python", python, "install", "--quiet", f"{wheel}[all]")
    sbom = Path("sbom.cdx.json")
    session.run(
        "cyclonedx-py", "environment", python, "--pyproject", "pyproject.toml", "--mc-type", "library",
        "--output-reproducible", "--output-file", str(sbom),
    )  # fmt: skip
    content = json.loads(sbom.read_text("utf-8"))
    content["metadata"]["component"]["version"] = wheel.split("-")[1]  # pyproject.toml has no version of its own
    sbom.write_text(json.dumps(content, indent=2) + "\n", "utf-8")


@nox.session(python="3.11")
def audit(session: nox.Session) -> None:
    """Known vulnerabilities in what the package and its extras need."""
    session.install("--group", "release")
    session.install(".[all]")
    session.run("pip-audit", "--local", "--skip-editable", "--progress-spinner", "off", *session.posargs)


@nox.session(python="3.11")
def workflows(session: nox.Session) -> None:
    """The workflows of .github: security and syntax."""
    session.install("--group", "release")
    session.run("zizmor", "--offline", "--persona=pedantic", "--no-progress", ".github")
