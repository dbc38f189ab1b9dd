"""What our adapters take from a server: found and tried when it is named, so that the server never starts with less.

Must never know: TLS, and what any one adapter does with what it takes.
"""

from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import Any

from mtls_middleware.errors import ConfigurationError


def taken(
    what: str, module: str, name: str, probe: Callable[[Any], None], *, needs: Sequence[str], release: str, pip: str
) -> Any:
    """`name` of `module`, for our `what`.

    Arguments: `probe` raises unless it is as in `release` of the server; `needs`: modules that must be installed;
    `pip`: what to write behind `pip install` where they are not.

    Raises `ConfigurationError` with the line to type: where something is missing, and where the interface has moved.
    """
    server = module.partition(".")[0]
    if any(find_spec(each) is None for each in needs):
        raise ConfigurationError(f"{what} needs an optional dependency: pip install {pip}")
    try:
        found = getattr(import_module(module), name)
        probe(found)
    except Exception as error:
        raise ConfigurationError(
            f"{what} does not fit {name} in {module} of {server} {_version(server)}, which is not as in {release} "
            f"({error}): upgrade mtls-middleware, or pip install '{server}=={release}.*'"
        ) from error
    return found


def require_methods(base: Any, methods: Sequence[str], beside: type = object) -> None:
    """Raise `TypeError` unless `base` has each of the methods, and not merely from `beside`."""
    for method in methods:
        if getattr(base, method, None) in (None, getattr(beside, method, None)):
            raise TypeError(f"it has no {method}")


def require_attributes(made: Any, names: Sequence[str]) -> None:
    """Raise `TypeError` unless the object has each of them, whatever its value."""
    for name in names:
        if not hasattr(made, name):
            raise TypeError(f"its {type(made).__name__} has no {name}")


def names_used(code: Any) -> set[str]:
    """The names of globals and attributes that a function's code, or a function within it, looks up."""
    inner = (names_used(each) for each in code.co_consts if hasattr(each, "co_names"))
    return set(code.co_names).union(*inner)


def _version(server: str) -> str:
    try:
        return version(server)
    except PackageNotFoundError:
        return "of unknown version"
