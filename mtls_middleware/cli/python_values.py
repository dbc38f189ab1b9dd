"""Reads the value of an expression in a Python file without executing the file."""

import ast
import ssl
from collections.abc import Mapping
from typing import Any

MESSAGE = "{place} computes {name}; expected a literal value"

# The constants that servers accept, besides literals.
_CONSTANTS = {f"ssl:{name}": int(getattr(ssl, name)) for name in ("CERT_NONE", "CERT_OPTIONAL", "CERT_REQUIRED")}
_CONSTANTS |= {f"ssl:VerifyMode.{name.removeprefix('ssl:')}": value for name, value in _CONSTANTS.items()}


class Imports:
    """The names that a file imports. `names`: local name -> `"module"` or `"module:name"`."""

    def __init__(self, names: Mapping[str, str]) -> None:
        self._names = names

    def name_of(self, node: ast.expr) -> str:
        """Return the object that `node` names, as `"module:name"`. `""` if it is not imported."""
        match node:
            case ast.Name(id=name):
                return self._names.get(name, "")
            case ast.Attribute(value=value, attr=name):
                outer = self.name_of(value)
                return outer and f"{outer}{'.' if ':' in outer else ':'}{name}"
        return ""


def imports_of(tree: ast.Module) -> Imports:
    """Return the names that a file imports. A name that the file also binds in another way is left out."""
    names: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for each in node.names:
                whole = each.name if each.asname else each.name.partition(".")[0]
                names[each.asname or whole] = whole
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names |= {each.asname or each.name: f"{node.module}:{each.name}" for each in node.names}
    stored = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    return Imports({name: whole for name, whole in names.items() if name not in stored})


def value_of(node: ast.expr, imports: Imports) -> str:
    """Return the value as on a command line. Raises `ValueError` if it is neither a literal nor an imported name.

    An imported object, such as a class, has the value `module:name`.
    """
    name = imports.name_of(node)
    if name:
        return str(_CONSTANTS.get(name, name))
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
