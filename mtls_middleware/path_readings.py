"""Finds every path that a framework may read from a request. Frameworks use `root_path` and `SCRIPT_NAME` differently.

Pure: the gateways convert the ASGI scope or the WSGI environ to a `Location`.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple, TypeVar

from mtls_middleware.errors import Refused

T = TypeVar("T")

# Represents the path " ", which Quart reads if the path equals the root or does not begin with the root. Only a
# catch-all route matches the path " ".
BLANK = "/ "

# Maximum number of characters of the path, and of the root, in a log record.
_MAX_LOGGED = 100


class Location(NamedTuple):
    """The path and the root of a request.

    Attributes:
        path: `PATH_INFO` or the scope's `path`, decoded. If `root_is_configured`, the root is removed from the path.
        root: `SCRIPT_NAME` or `root_path`, decoded.
        full_path: the root followed by the path.
        other_paths: other paths in the scope, for example the path before a framework's mount removed a prefix.
        app_prefixes: prefixes that the application itself removes from the path, each with its replacement.
        root_is_configured: whether `root` is the operator's argument `root_path=`.
    """

    path: str
    root: str = ""
    full_path: str = ""
    other_paths: tuple[str, ...] = ()
    app_prefixes: tuple[tuple[str, str], ...] = ()
    root_is_configured: bool = False


def inner(path: str, root: str) -> str:
    """Return the path without the root.

    A path that does not begin with the root is returned unchanged, because a proxy has already removed the root.
    """
    return path[len(root) :] if f"{path}/".startswith(f"{root}/") else path


def readings(location: Location) -> tuple[str, ...]:
    """Return every path that a known framework may read from this location. The most common path is first.

    Raises `Refused` if the root is not a string.
    """
    if not location.root and not location.app_prefixes and not location.other_paths:
        return (location.path,)
    if not isinstance(location.root, str):
        raise Refused("ambiguous_path", f"root_path is a {type(location.root).__name__}; expected a string")
    return tuple(dict.fromkeys(_readings(location)))


def _readings(location: Location) -> Iterator[str]:
    root = location.root
    yield location.path or "/" if root else location.path
    paths = (location.path, *location.other_paths)
    if location.root_is_configured:
        paths = (location.full_path, *location.other_paths)
        yield from (inner(path, root) or "/" for path in location.other_paths)
    elif root:
        yield from location.other_paths
        # Quart and Django also remove the root "/api" from "/apix". Litestar removes the root at any place in the path.
        yield from (_join("", path.split(root, 1)[-1]) for path in paths)
        yield _join("", location.full_path)
        if not all(len(path) > len(root) and path.startswith(root) for path in paths):
            yield BLANK
    else:
        yield from location.other_paths
    for prefix, replacement in location.app_prefixes:
        if not (location.root_is_configured and prefix == root):
            yield from (_join(replacement, path[len(prefix) :]) for path in paths if path.startswith(prefix))


def _join(prefix: str, rest: str) -> str:
    return prefix + (rest if rest.startswith("/") else f"/{rest}")


def same_for_all_readings(location: Location, function: Callable[[str], T]) -> T:
    """Return the result of `function` for the path.

    Raises `Refused` if the result differs for another reading of the path.
    """
    paths = readings(location)
    result = function(paths[0])
    for path in paths[1:]:
        if function(path) != result:
            raise Refused("ambiguous_path", _advice(location))
    return result


def _advice(location: Location) -> str:
    root, path = location.root[:_MAX_LOGGED], location.path[:_MAX_LOGGED]
    found = f"root_path or SCRIPT_NAME is {root!a}" if root else f"the application removes {location.app_prefixes!a}"
    return (
        f"{found} and the path is {path!a}: frameworks read such a path differently, and these layers have different "
        "rules for the readings. Give the path where the application is mounted, for example root_path='/api', or "
        "root_path='' if it is not mounted. If the framework has its own root_path, give the same value"
    )
