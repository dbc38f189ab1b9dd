"""Creates lazy exports: a package imports an exported name only when the name is first used (PEP 562)."""

import sys
from collections.abc import Callable, Collection, Mapping
from importlib import import_module
from types import ModuleType


def exports(
    package: str, modules: Mapping[str, Collection[str]], *, moved: Mapping[str, str] | None = None
) -> tuple[Callable[[str], object], Callable[[], list[str]]]:
    """Return the functions `__getattr__` and `__dir__` for a package that exports names lazily.

    Arguments:
        package: the name of the package.
        modules: a mapping from a module below `mtls_middleware` to the names that the package exports from this module.
        moved: a mapping from an old name to the module that exports this name now. Old names can still be imported from
            this package, but `__dir__` omits them.

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


def submodules(package: str, names: Collection[str]) -> Callable[[str], ModuleType]:
    """Return the function `__getattr__` for a package that imports its modules `names` when they are first used.

    Example: `__getattr__ = submodules(__name__, __all__)`
    """

    def attribute(name: str) -> ModuleType:
        if name not in names:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return import_module(f"{package}.{name}")

    return attribute
