"""Looks up the internals of a server that an adapter extends, and checks them before the server starts."""

from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import Any

from mtls_middleware.errors import ConfigurationError


def server_interface(
    feature: str, module: str, name: str, probe: Callable[[Any], None], *, needs: Sequence[str], release: str, pip: str
) -> Any:
    """Import `name` from `module` of a server, check it with `probe`, and return it.

    Arguments:
        feature: the name in this package that needs the object, used in messages.
        probe: a function that raises an exception if the object's interface differs from that in `release`.
        needs: the modules that must be installed.
        release: a release of the server whose interface is known.
        pip: the arguments of `pip install` that install the modules.

    Raises `ConfigurationError` if a module is not installed, or if the interface has changed. The message contains the
    `pip install` command that solves the problem.
    """
    server = module.partition(".")[0]
    if any(find_spec(each) is None for each in needs):
        raise ConfigurationError(f"{feature} needs an optional dependency: pip install {pip}")
    try:
        found = getattr(import_module(module), name)
        probe(found)
    except Exception as error:
        raise ConfigurationError(
            f"{feature} is not compatible with {name} in {module} of {server} {_version(server)} ({error}). It is "
            f"compatible with release {release}: upgrade mtls-middleware, or pip install '{server}=={release}.*'"
        ) from error
    return found


def require_methods(base: Any, methods: Sequence[str], ancestor: type = object) -> None:
    """Raise `TypeError` unless the class `base` has every method in `methods`.

    A method that `base` inherits unchanged from `ancestor` is treated as missing.
    """
    for method in methods:
        if getattr(base, method, None) in (None, getattr(ancestor, method, None)):
            raise TypeError(f"{base.__name__} has no {method}")


def require_attributes(instance: Any, names: Sequence[str]) -> None:
    """Raise `TypeError` unless the object has every attribute in `names`. An attribute may have any value."""
    for name in names:
        if not hasattr(instance, name):
            raise TypeError(f"{type(instance).__name__} has no {name}")


def names_used(code: Any) -> set[str]:
    """Return the names of the globals and attributes that a function looks up, also in the functions that it defines.

    `code`: the code object of the function.
    """
    inner = (names_used(each) for each in code.co_consts if hasattr(each, "co_names"))
    return set(code.co_names).union(*inner)


def _version(server: str) -> str:
    try:
        return version(server)
    except PackageNotFoundError:
        return "of unknown version"
