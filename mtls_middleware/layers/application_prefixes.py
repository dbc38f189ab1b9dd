"""Prefixes that an application removes from a path by itself, although no server says so.

FastAPI with `root_path=`, Django with `FORCE_SCRIPT_NAME` and hypercorn's dispatcher do. This module only reads
attributes of the application. It cannot find an application that other code hides: the operator states `root_path=`.
"""

import sys
from collections.abc import Iterator
from typing import Any

# Applications, middleware and adapters keep the application inside of them under one of these names.
_INNER = ("_app", "app", "wsgi_app", "asgi_app", "wsgi_application", "application", "_application", "wrapped", "func")
# Objects that are looked at. A service has a dozen.
_MOST = 1000


class ApplicationPrefixes:
    """The prefixes of one application. It is examined at the first request, because it is complete then."""

    def __init__(self, app: Any) -> None:
        self._app = app
        self._found: list[tuple[Any, str]] | None = None

    def now(self) -> tuple[tuple[str, str], ...]:
        """Pairs: a prefix, and what the application puts in its place."""
        if self._found is None:
            self._found = list(_examined(self._app))
        found = [each for owner, mount in self._found for each in _of(owner, mount)]
        settings = getattr(sys.modules.get("django.conf"), "settings", None)
        if settings is not None and settings.configured:
            found.append((settings.FORCE_SCRIPT_NAME, ""))
        return tuple((prefix, instead) for prefix, instead in found if isinstance(prefix, str) and prefix)


def _of(owner: Any, mount: str) -> Iterator[tuple[Any, str]]:
    if _is(owner, "fastapi", "FastAPI"):
        yield owner.root_path, mount
    else:  # hypercorn's dispatcher gives "/apiadmin" to the application at "/api", and Quart finds "/admin" in it
        yield from ((prefix, f"{mount}{prefix}") for prefix in owner.mounts)


def _examined(app: Any) -> Iterator[tuple[Any, str]]:
    """The applications and dispatchers that have prefixes, each with the mount that it is under."""
    seen: set[int] = set()
    waiting = [(app, "")]
    while waiting and len(seen) < _MOST:
        current, mount = waiting.pop()
        if current is None or id(current) in seen:
            continue
        seen.add(id(current))
        if _is(current, "fastapi", "FastAPI"):
            yield current, mount
        mounts = _attribute(current, "mounts")
        if isinstance(mounts, dict):  # of werkzeug's dispatcher, too, which minds the slash
            if _is(current, "hypercorn", "_DispatcherMiddleware"):
                yield current, mount
            waiting += [(each, f"{mount}{prefix}") for prefix, each in mounts.items()]
        routes = _attribute(current, "routes")
        if isinstance(routes, (list, tuple)):  # of Starlette and FastAPI; a mount has an application and a path
            waiting += [(route.app, mount + getattr(route, "path", "")) for route in routes if hasattr(route, "routes")]
        waiting += [(each, mount) for each in _inside(current)]


def _inside(current: Any) -> Iterator[Any]:
    for name in _INNER:
        value = _attribute(current, name)
        # A method of the owner, such as Flask's own wsgi_app, leads back to the owner.
        yield getattr(value, "__self__", value) if callable(value) else None
    for cell in getattr(current, "__closure__", None) or ():  # middleware that is a function
        try:
            yield cell.cell_contents if callable(cell.cell_contents) else None
        except ValueError:  # an empty cell
            continue


def _attribute(owner: Any, name: str) -> Any:
    try:
        return getattr(owner, name, None)
    except Exception:  # noqa: BLE001 (a proxy object outside of its context, or a property of the user's)
        return None


def _is(owner: Any, package: str, name: str) -> bool:
    return any(cls.__name__ == name and cls.__module__.partition(".")[0] == package for cls in type(owner).__mro__)
