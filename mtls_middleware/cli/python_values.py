"""Reads the value of an expression in a Python file without executing the file."""

import ast
import ssl
from collections import Counter
from collections.abc import Mapping
from typing import Any

MESSAGE = "{place} computes {name}; expected a literal value"

# The constants that servers accept, besides literals.
_CONSTANTS = {f"ssl:{name}": int(getattr(ssl, name)) for name in ("CERT_NONE", "CERT_OPTIONAL", "CERT_REQUIRED")}
_CONSTANTS |= {f"ssl:VerifyMode.{name.removeprefix('ssl:')}": value for name, value in _CONSTANTS.items()}


# The packages whose classes can be values of options.
_SERVERS = ("uvicorn.", "uvicorn_worker", "gunicorn.workers.", "mtls_middleware.servers.")


class Imports:
    """The names that a file imports. `names` maps each local name to `"module"` or `"module:name"`."""

    def __init__(self, names: Mapping[str, str]) -> None:
        self._names = names

    def name_of(self, node: ast.expr) -> str:
        """Return the object that `node` names, as `"module:name"`, or `""` if it is not imported."""
        match node:
            case ast.Name(id=name):
                return self._names.get(name, "")
            case ast.Attribute(value=value, attr=name):
                outer = self.name_of(value)
                return outer and f"{outer}{'.' if ':' in outer else ':'}{name}"
        return ""


def imports_of(tree: ast.Module) -> Imports:
    """Return the names that a file imports, without names that the file also binds in another place."""
    names: dict[str, str] = {}
    bound: Counter[str] = Counter()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for each in node.names:
                whole = each.name if each.asname else each.name.partition(".")[0]
                names[each.asname or whole] = whole
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names |= {each.asname or each.name: f"{node.module}:{each.name}" for each in node.names}
        bound.update(bound_by(node))
    return Imports({name: whole for name, whole in names.items() if bound[name] == 1})


def bound_by(node: ast.AST) -> list[str]:
    """Return the names that one node binds."""
    match node:
        case ast.Name(id=name, ctx=ast.Store() | ast.Del()):
            return [name]
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name) | ast.arg(arg=name):
            return [name]
        case (
            ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)) | ast.MatchMapping(rest=str(name))
            | ast.ExceptHandler(name=str(name))
        ):  # fmt: skip
            return [name]
        case ast.Import(names=aliases):
            return [each.asname or each.name.partition(".")[0] for each in aliases]
        case ast.ImportFrom(names=aliases):
            return [each.asname or each.name for each in aliases]
    return []


def value_of(node: ast.expr, imports: Imports) -> str:
    """Return the value as it would be written on a command line.

    Raises `ValueError` if it is neither a literal nor a known object.

    A class of a known server has the value `module:name`. Any other imported name may have any value.
    """
    name = imports.name_of(node)
    if name in _CONSTANTS:
        return str(_CONSTANTS[name])
    if name.startswith(_SERVERS) and name.rpartition(":")[2].rpartition(".")[2][:1].isupper():
        return name
    if isinstance(node, ast.Call) and not node.keywords and len(node.args) == 1 and _is(node.func, "int"):
        return value_of(node.args[0], imports)
    try:
        value: Any = ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
        raise ValueError("not a literal value") from None
    if isinstance(value, (list, tuple, set, frozenset)):
        return ",".join(map(str, value))
    return str(value)


def _is(node: ast.expr, name: str) -> bool:
    return isinstance(node, ast.Name) and node.id == name
