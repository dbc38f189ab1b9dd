"""The exported names of a package, each imported when it is first used (PEP 562)."""

import sys
from collections.abc import Callable, Collection, Mapping
from importlib import import_module


def exports(
    package: str, modules: Mapping[str, Collection[str]]
) -> tuple[Callable[[str], object], Callable[[], list[str]]]:
    """`__getattr__` and `__dir__` for a package. `modules`: below `mtls_middleware`, with the names that each exports.

    Example: `__getattr__, __dir__ = exports(__name__, {"certificate": ["ClientCertificate", "Verification"]})`
    """
    members = vars(sys.modules[package])
    module_of = {name: module for module, names in modules.items() for name in names}

    def attribute(name: str) -> object:
        if name not in module_of:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        members[name] = getattr(import_module(f"mtls_middleware.{module_of[name]}"), name)
        return members[name]

    def names() -> list[str]:
        return sorted({*members, *module_of})

    return attribute, names
