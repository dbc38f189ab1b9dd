"""Imports form no cycle, the core imports nothing from its rim, and no file is too long."""

import ast
import graphlib
import importlib
from functools import cache
from pathlib import Path

import pytest

import mtls_middleware

ROOT = Path(mtls_middleware.__file__).parent
# What adapts the core to a gateway, a framework, a server, a test or the command line.
RIM = {"__main__", "asgi", "cli", "client", "integrations", "servers", "testing", "wsgi"}


@cache
def modules() -> dict[str, Path]:
    found = {}
    for path in [*ROOT.rglob("*.py"), *ROOT.rglob("*.pyi")]:
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(path: Path) -> set[str]:
    """What of the package a file imports, anywhere in it."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "mtls_middleware":
            below = (node.module or "").partition(".")[2]
            for each in node.names:
                whole = f"{below}.{each.name}".strip(".")
                names.add(whole if whole in modules() else below)
        elif isinstance(node, ast.Import):
            names |= {each.name.partition(".")[2] for each in node.names if each.name.startswith("mtls_middleware")}
    return names


@cache
def graph() -> dict[str, set[str]]:
    return {name: imports(path) for name, path in modules().items()}


def folder(name: str) -> str:
    return name.partition(".")[0]


def test_imports_form_no_cycle():
    order = list(graphlib.TopologicalSorter(graph()).static_order())
    assert set(order) == modules().keys()


def test_the_core_imports_nothing_from_its_rim():
    # The package itself exports the accessors.
    core = {name for name in graph() if name and folder(name) not in RIM}
    assert {(name, each) for name in core for each in graph()[name] if folder(each) in RIM} == set()


def test_sources_validation_and_policy_import_no_layer():
    below = {name for name in graph() if folder(name) in {"sources", "validation", "policy"}}
    assert {(name, each) for name in below for each in graph()[name] if folder(each) == "layers"} == set()


@pytest.mark.parametrize(
    ("half", "other"), [("resource_server", "token_endpoint"), ("token_endpoint", "resource_server")]
)
def test_the_halves_of_rfc_8705_import_nothing_from_each_other(half, other):
    # The layer of the token endpoint is part of its half.
    names = {name for name in graph() if folder(name) == half}
    if half == "token_endpoint":
        names.add("layers.client")
    assert {(name, each) for name in names for each in graph()[name] if folder(each) == other} == set()


def test_no_file_is_two_rooms():
    long = {name: size for name, path in modules().items() if (size := len(path.read_text("utf-8").splitlines())) > 350}
    assert not long


def test_names_are_exported_by_literal_lists():
    for name, path in modules().items():
        if path.name == "__init__.py":
            tree = ast.parse(path.read_text("utf-8"))
            kinds = {type(node) for node in tree.body[1:]}
            assert kinds <= {ast.ImportFrom, ast.Assign, ast.If}, f"{name} has logic"
            assigned = [node for node in tree.body if isinstance(node, ast.Assign)]
            assert all(len(ast.literal_eval(node.value)) <= 30 for node in assigned)


def packages():
    return [name for name in modules() if "exports(" in modules()[name].read_text("utf-8") and name != "lazy_exports"]


@pytest.mark.parametrize("name", packages())
def test_type_checkers_and_the_interpreter_see_the_same_names(name):
    package = importlib.import_module(f"mtls_middleware.{name}".rstrip("."))
    tree = ast.parse(modules()[name].read_text("utf-8"))
    (checked,) = [node for node in tree.body if isinstance(node, ast.If) and isinstance(node.test, ast.Name)]
    origins = {(each.name, node.module) for node in checked.body for each in node.names}
    assert {each for each, _ in origins} == set(package.__all__)
    assert set(package.__all__) <= set(dir(package))
    for each, origin in origins:
        assert getattr(package, each) is getattr(importlib.import_module(origin), each)
    with pytest.raises(AttributeError, match="has no attribute 'misspelt'"):
        _ = package.misspelt
