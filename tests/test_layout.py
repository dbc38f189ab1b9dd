"""Imports form no cycle, the core imports nothing from its rim, and no file is too long."""

import ast
import graphlib
from functools import cache
from pathlib import Path

import mtls_middleware

ROOT = Path(mtls_middleware.__file__).parent
# What adapts the core to a gateway, a framework, a server, a test or the command line.
RIM = {"asgi", "cli", "integrations", "servers", "testing", "wsgi"}
# These import each name when it is used (tests/testing/test_plugin.py).
IMPORTED_BY_THE_PLUGIN = {"", "testing"}


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
    layers = {"layer_interface", "resource_flow", "token_flow"}
    below = {name for name in graph() if folder(name) in {"sources", "validation", "policy"}}
    assert {(name, each) for name in below for each in graph()[name] & layers} == set()


def test_no_file_is_two_rooms():
    long = {name: size for name, path in modules().items() if (size := len(path.read_text("utf-8").splitlines())) > 350}
    assert not long


def test_names_are_exported_by_literal_lists():
    for name, path in modules().items():
        if path.name == "__init__.py":
            tree = ast.parse(path.read_text("utf-8"))
            kinds = {type(node) for node in tree.body[1:]}
            if name in IMPORTED_BY_THE_PLUGIN:
                kinds -= {ast.If}
            assert kinds <= {ast.ImportFrom, ast.Assign}, f"{name} has logic"
            assigned = [node for node in tree.body if isinstance(node, ast.Assign)]
            exported = [node for node in assigned if not isinstance(node.value, ast.Call)]
            assert all(len(ast.literal_eval(node.value)) <= 16 for node in exported)
