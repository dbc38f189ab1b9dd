"""The paths that an application may read in one request: servers and frameworks disagree about `root_path`.

Pure: no scope, no environ. A gateway's view gives a `Location`.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple, TypeVar

from mtls_middleware.errors import Refused

T = TypeVar("T")

# Quart reads a blank if the path is the root, or does not begin with it. Only a route for every path matches that.
BLANK = "/ "

# Characters of a client's path or root that a log record quotes.
_QUOTED = 100


class Location(NamedTuple):
    """Where a request goes, as the server says it.

    Attributes:
        path: `PATH_INFO` or the scope's `path`, decoded. If `stated`: the path without the root.
        root: `SCRIPT_NAME` or `root_path`, decoded.
        whole: the root followed by `path`.
        others: other paths that the scope names, such as the one before a mount cut it.
        own: prefixes that the application itself replaces, and what it puts in their place.
        stated: whether `root` is the operator's statement, `root_path=`.
    """

    path: str
    root: str = ""
    whole: str = ""
    others: tuple[str, ...] = ()
    own: tuple[tuple[str, str], ...] = ()
    stated: bool = False


def inner(path: str, root: str) -> str:
    """The path below the root. A path that does not begin with the root is taken as it is: a proxy removed the root."""
    return path[len(root) :] if f"{path}/".startswith(f"{root}/") else path


def readings(location: Location) -> tuple[str, ...]:
    """Every path that a known framework reads, the plain one first. Raises `Refused` if the root is not a string."""
    if not location.root and not location.own and not location.others:
        return (location.path,)
    if not isinstance(location.root, str):
        raise Refused("ambiguous_path", f"root_path is a {type(location.root).__name__}; expected a string")
    return tuple(dict.fromkeys(_readings(location)))


def _readings(location: Location) -> Iterator[str]:
    root = location.root
    yield location.path or "/" if root else location.path
    given = (location.path, *location.others)
    if location.stated:
        given = (location.whole, *location.others)
        yield from (inner(path, root) or "/" for path in location.others)
    elif root:
        yield from location.others
        # Quart and Django remove the root without regard to slashes. Litestar removes it wherever it stands.
        yield from (_below("", path.split(root, 1)[-1]) for path in given)
        yield _below("", location.whole)
        if not all(len(path) > len(root) and path.startswith(root) for path in given):
            yield BLANK
    else:
        yield from location.others
    for prefix, instead in location.own:
        if not (location.stated and prefix == root):
            yield from (_below(instead, path[len(prefix) :]) for path in given if path.startswith(prefix))


def _below(prefix: str, rest: str) -> str:
    return prefix + (rest if rest.startswith("/") else f"/{rest}")


def one_answer(location: Location, about: Callable[[str], T]) -> T:
    """What `about` says of the path. Raises `Refused` if it does not say the same of every reading."""
    paths = readings(location)
    answer = about(paths[0])
    for path in paths[1:]:
        if about(path) != answer:
            raise Refused("ambiguous_path", _advice(location))
    return answer


def _advice(location: Location) -> str:
    root, path = location.root[:_QUOTED], location.path[:_QUOTED]
    found = f"root_path or SCRIPT_NAME is {root!a}" if root else f"the application removes {location.own!a} by itself"
    return (
        f"{found} and the path is {path!a}: frameworks read such a path differently, and these layers have different "
        "rules for the readings. Say where the application is mounted, for example root_path='/api', or root_path='' "
        "if it is not mounted; root_path= must be equal to a root_path of the framework itself"
    )
