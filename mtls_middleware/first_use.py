"""The exported names of a package, each imported when it is first used (PEP 562)."""

import sys
from collections.abc import Callable, Mapping
from importlib import import_module


def exports(package: str, modules: Mapping[str, str]) -> tuple[Callable[[str], object], Callable[[], list[str]]]:
    """`__getattr__` and `__dir__` for a package. `modules`: each exported name, and the module below it that has it.

    Example: `__getattr__, __dir__ = exports(__name__, {"ClientCertificate": "certificate"})`
    """
    members = vars(sys.modules[package])

    def attribute(name: str) -> object:
        if name not in modules:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        members[name] = getattr(import_module(f"{package}.{modules[name]}"), name)
        return members[name]

    def names() -> list[str]:
        return sorted({*members, *modules})

    return attribute, names
