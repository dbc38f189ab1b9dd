"""Each name of the generated reference has an example, and the examples with a prompt run."""

import ast
import doctest
import importlib
import inspect
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "mtls_middleware"
SECTION = re.compile(r"automodule:: (\S+)\n(?: +:members:(.*)\n)?")
# The pages of the reference describe these names themselves.
IN_THE_PAGE = ("ASGIApp", "Message", "Receive", "Scope", "Send", "OMIT", "TESTING_ENVIRON", "ANYONE")
# These modules can be imported only after Django is configured, so their source is read instead.
NEEDS_DJANGO = (
    "mtls_middleware.integrations.django",
    "mtls_middleware.integrations.rest",
    "mtls_middleware.testing.dj",
)


def source_docstrings(module: str) -> dict[str, str]:
    tree = ast.parse(ROOT.joinpath(*module.split(".")).with_suffix(".py").read_text("utf-8"))
    named = [node for node in tree.body if isinstance(node, ast.ClassDef | ast.FunctionDef)]
    return {node.name: ast.get_docstring(node) or "" for node in named}


def docstrings(module: str, members: str) -> dict[str, str]:
    names = [each.strip() for each in members.split(",") if each.strip()]
    if module.startswith(NEEDS_DJANGO):
        found = source_docstrings(module)
        return {name: found[name] for name in names or found if not name.startswith("_")}
    loaded = importlib.import_module(module)
    chosen = [name for name in names or getattr(loaded, "__all__", ()) if name not in IN_THE_PAGE]
    return {name: inspect.getdoc(getattr(loaded, name)) or "" for name in chosen}


REFERENCE = {
    f"{module}.{name}": text
    for page in sorted((ROOT / "docs" / "reference").glob("*.md"))
    for module, members in SECTION.findall(page.read_text("utf-8"))
    for name, text in docstrings(module, members).items()
}
MODULES = [
    ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for path in sorted(PACKAGE.rglob("*.py"))
    if ">>> " in path.read_text("utf-8")
]


def test_the_reference_has_many_names() -> None:
    assert len(REFERENCE) > 100


@pytest.mark.parametrize("name", sorted(REFERENCE))
def test_each_name_of_the_reference_has_an_example(name: str) -> None:
    assert re.search(r"\bExample", REFERENCE[name])


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_of_a_module_run(name: str) -> None:
    results = doctest.testmod(importlib.import_module(name), optionflags=doctest.ELLIPSIS)
    assert results.attempted > 0
    assert results.failed == 0
