"""The advice of the package: what it tells the operator to change, found in its source code."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import TypeGuard

PACKAGE = Path(__file__).resolve().parents[1] / "mtls_middleware"
# The class or function, and the position of its argument with the advice.
POSITIONS = {"Absence": 1, "Fault": 2, "UnusableOCSPResponse": 1, "_log": 4}
# Functions that return advice.
ADVISERS = ("_advice", "near_miss", "case_advice", "_order_advice", "failure_reason")


def _constants(module: ast.Module) -> dict[str, ast.expr]:
    return {
        target.id: node.value
        for node in module.body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }


class _Reader:
    def __init__(self, modules: dict[str, ast.Module]) -> None:
        self._constants: dict[str, dict[str, ast.expr]] = {}
        for name, module in modules.items():
            self._constants[name] = _constants(module)
        self._everywhere = {name: value for found in self._constants.values() for name, value in found.items()}

    def texts(self, node: ast.expr, scope: ast.AST, module: str) -> Iterator[str]:
        """Yield each string that the expression can be, with `...` for the parts that vary."""
        match node:
            case ast.Constant(value=str(text)):
                yield text
            case ast.JoinedStr(values=parts):
                yield "".join(self._part(part, scope, module) for part in parts)
            case ast.IfExp(body=first, orelse=second):
                yield from self.texts(first, scope, module)
                yield from self.texts(second, scope, module)
            case ast.BoolOp(values=values):
                for each in values:
                    yield from self.texts(each, scope, module)
            case ast.Dict(values=values):
                for each in values:
                    yield from self.texts(each, scope, module)
            case ast.Call(func=ast.Name(id="next"), args=[_, default]):
                yield from self.texts(default, scope, module)
            case ast.Name(id=name):
                yield from self._named(name, scope, module)

    def _named(self, name: str, scope: ast.AST, module: str) -> Iterator[str]:
        local = [each.value for each in ast.walk(scope) if isinstance(each, ast.Assign) and name in _names(each)]
        if local:
            for each in local:
                yield from self.texts(each, scope, module)
        else:
            value = self._constants[module].get(name) or self._everywhere.get(name)
            if value is not None:
                yield from self.texts(value, scope, module)

    def _part(self, part: ast.expr, scope: ast.AST, module: str) -> str:
        if isinstance(part, ast.Constant):
            return str(part.value)
        value = part.value if isinstance(part, ast.FormattedValue) else part
        found = list(self.texts(value, scope, module)) if isinstance(value, ast.Name) else []
        return found[0] if len(found) == 1 and found[0] else "..."


def _names(node: ast.Assign) -> set[str]:
    return {each.id for target in node.targets for each in ast.walk(target) if isinstance(each, ast.Name)}


def _arguments(node: ast.Call) -> Iterator[ast.expr]:
    yield from (each.value for each in node.keywords if each.arg == "advice")
    position = POSITIONS.get(_called(node))
    if position is not None and len(node.args) > position:
        yield node.args[position]


def _called(node: ast.Call) -> str:
    return node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")


@cache
def _modules() -> dict[str, ast.Module]:
    paths = [path for path in sorted(PACKAGE.rglob("*.py")) if path.parent.name not in ("cli", "testing")]
    return {str(path.relative_to(PACKAGE)): ast.parse(path.read_text("utf-8")) for path in paths}


def _functions(module: ast.Module) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    yield from (each for each in ast.walk(module) if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef))


def _expressions(module: ast.Module) -> Iterator[tuple[ast.expr, ast.AST]]:
    """Yield the expressions that are advice, with the function or module that they are in."""
    yield from ((value, module) for name, value in _constants(module).items() if "ADVICE" in name)
    for function in _functions(module):
        for node in ast.walk(function):
            if isinstance(node, ast.Call):
                yield from ((each, function) for each in _arguments(node))
            elif function.name in ADVISERS and _is_result(node):
                yield node.value, function


def _is_result(node: ast.AST) -> TypeGuard[ast.Assign]:
    """Whether the statement returns advice, or stores it in a variable of this name."""
    is_return = isinstance(node, ast.Return) and node.value is not None
    return is_return or (isinstance(node, ast.Assign) and "advice" in _names(node))


@cache
def advice() -> set[str]:
    """Return each advice, with `...` for the parts that vary."""
    modules = _modules()
    reader = _Reader(modules)
    return {
        text
        for name, module in modules.items()
        for node, scope in _expressions(module)
        for text in reader.texts(node, scope, name)
        if re.search(r"\w{2}", text)
    }


@cache
def messages() -> set[str]:
    """Return each string of the package, with `...` for the parts that vary."""
    modules = _modules()
    reader = _Reader(modules)
    return {
        text
        for name, module in modules.items()
        for node in ast.walk(module)
        if isinstance(node, ast.Constant | ast.JoinedStr)
        for text in reader.texts(node, module, name)
    }


@cache
def log_formats() -> set[str]:
    """Return the formats of the warnings and errors that are logged, with `...` for the parts that vary.

    Without those that consist of parts that vary, and without those of the servers' own loggers.
    """
    found = set()
    for name, module in _modules().items():
        for node in ast.walk(module):
            if isinstance(node, ast.Call) and not name.startswith("servers/"):
                names = {each.attr for each in node.args if isinstance(each, ast.Attribute)}
                if _called(node) in ("warning", "error") or names & {"WARNING", "ERROR"}:
                    texts = [each.value for each in node.args if isinstance(each, ast.Constant)]
                    found |= {re.sub(r"%[.\d]*\w", "...", text) for text in texts if isinstance(text, str)}
    return {each for each in found if re.search(r"\w{2}", each)}
