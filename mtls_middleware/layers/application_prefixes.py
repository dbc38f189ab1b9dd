"""Finds the prefixes that an application removes from paths, and that the server does not report as a root path.

FastAPI with `root_path=`, Django with `FORCE_SCRIPT_NAME` and hypercorn's dispatcher do this. This module only reads
attributes of the application. If other code wraps the application so that this module cannot find it, the operator must
give `root_path=` instead.
"""

import sys
from collections.abc import Iterator
from typing import Any

# The attributes in which applications, middleware and adapters store the application that they wrap.
_INNER = ("_app", "app", "wsgi_app", "asgi_app", "wsgi_application", "application", "_application", "wrapped", "func")
# Maximum number of objects that are examined. A service has about a dozen.
_MAX_OBJECTS = 1000


class ApplicationPrefixes:
    """The prefixes of one application. The application is examined at the first request, when it is complete."""

    def __init__(self, app: Any) -> None:
        self._app = app
        self._found: list[tuple[Any, str]] | None = None

    def now(self) -> tuple[tuple[str, str], ...]:
        """The current pairs of a prefix and its replacement. Applications may change their prefixes."""
        if self._found is None:
            self._found = list(_applications_with_prefixes(self._app))
        found = [pair for owner, mount in self._found for pair in _prefixes_of(owner, mount)]
        settings = getattr(sys.modules.get("django.conf"), "settings", None)
        if settings is not None and settings.configured:
            found.append((settings.FORCE_SCRIPT_NAME, ""))
        return tuple((prefix, replacement) for prefix, replacement in found if isinstance(prefix, str) and prefix)


def _prefixes_of(owner: Any, mount: str) -> Iterator[tuple[Any, str]]:
    if _is(owner, "fastapi", "FastAPI"):
        yield owner.root_path, mount
    else:
        # hypercorn's dispatcher passes "/apiadmin" to the application at "/api", and Quart reads this as "/admin".
        yield from ((prefix, f"{mount}{prefix}") for prefix in owner.mounts)


def _applications_with_prefixes(app: Any) -> Iterator[tuple[Any, str]]:
    """Return the applications and dispatchers that have prefixes, each with the path where it is mounted."""
    seen: set[int] = set()
    queue = [(app, "")]
    while queue and len(seen) < _MAX_OBJECTS:
        current, mount = queue.pop()
        if current is None or id(current) in seen:
            continue
        seen.add(id(current))
        if _is(current, "fastapi", "FastAPI"):
            yield current, mount
        mounts = _attribute(current, "mounts")
        # The application is a dispatcher of hypercorn, or of werkzeug, which matches only whole segments.
        if isinstance(mounts, dict):
            if _is(current, "hypercorn", "_DispatcherMiddleware"):
                yield current, mount
            queue += [(each, f"{mount}{prefix}") for prefix, each in mounts.items()]
        routes = _attribute(current, "routes")
        # The application is Starlette or FastAPI, whose mounts have an application and a path.
        if isinstance(routes, (list, tuple)):
            queue += [(route.app, mount + getattr(route, "path", "")) for route in routes if hasattr(route, "routes")]
        queue += [(each, mount) for each in _wrapped_by(current)]


def _wrapped_by(current: Any) -> Iterator[Any]:
    for name in _INNER:
        value = _attribute(current, name)
        # For a bound method such as Flask's wsgi_app, the application is the object that owns the method.
        yield getattr(value, "__self__", value) if callable(value) else None
    for cell in getattr(current, "__closure__", None) or ():  # middleware that is a function
        try:
            yield cell.cell_contents if callable(cell.cell_contents) else None
        except ValueError:  # an empty cell
            continue


def _attribute(owner: Any, name: str) -> Any:
    try:
        return getattr(owner, name, None)
    except Exception:  # noqa: BLE001 (a proxy object outside its context, or a property of the user's class)
        return None


def _is(owner: Any, package: str, name: str) -> bool:
    return any(cls.__name__ == name and cls.__module__.partition(".")[0] == package for cls in type(owner).__mro__)
