"""Lazy exports: a package imports an exported name when it is first used (PEP 562)."""

import sys
from collections.abc import Callable, Collection, Mapping
from importlib import import_module


def exports(
    package: str, modules: Mapping[str, Collection[str]], *, moved: Mapping[str, str] | None = None
) -> tuple[Callable[[str], object], Callable[[], list[str]]]:
    """`__getattr__` and `__dir__` for a package.

    Arguments:
        package: the name of the package.
        modules: for each module below `mtls_middleware`, the names that the package exports from it.
        moved: old names, and the module that exports them now. They can still be imported from this package, but
            `__dir__` omits them.

    Example: `__getattr__, __dir__ = exports(__name__, {"certificate": ["ClientCertificate", "Verification"]})`
    """
    members = vars(sys.modules[package])
    module_of = {name: module for module, names in modules.items() for name in names}
    origins = {**(moved or {}), **module_of}

    def attribute(name: str) -> object:
        if name not in origins:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        members[name] = getattr(import_module(f"mtls_middleware.{origins[name]}"), name)
        return members[name]

    def names() -> list[str]:
        return sorted({*members, *module_of})

    return attribute, names
