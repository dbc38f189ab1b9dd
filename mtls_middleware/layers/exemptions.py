"""The requests that a layer lets through although it would reject them: exempt paths, and CORS preflights."""

import re
from collections.abc import Collection, Sequence

from mtls_middleware.errors import ConfigurationError
from mtls_middleware.layers.paths import PathSet
from mtls_middleware.request import RequestView

_ASKED = "access-control-request-method"
# One value each: servers join the lines of a field by a comma. The method is a token (RFC 9110 5.6.2).
_ORIGIN = re.compile(r"[^\s,]+")
_METHOD = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


class Exemptions:
    """One layer's exemptions. Raises `ConfigurationError`."""

    def __init__(self, paths: Collection[str], preflight: bool) -> None:
        if preflight not in (True, False):
            raise ConfigurationError(f"exempt_preflight={preflight!r}: expected True or False")
        self.paths: PathSet = PathSet("exempt", paths, below=True)
        self._preflight = preflight

    def __bool__(self) -> bool:
        """Whether any request can be exempt."""
        return self._preflight or bool(self.paths)

    def cover(self, view: RequestView) -> bool:
        """Raises `Refused` if the answer depends on how the application reads the path."""
        return (self._preflight and _is_preflight(view)) or self.paths.covers(view)


def _is_preflight(view: RequestView) -> bool:
    """Whether this is a CORS preflight (Fetch standard, CORS-preflight request)."""
    return (
        view.method == "OPTIONS"
        and _is_one(view.headers("origin"), _ORIGIN)
        and _is_one(view.headers(_ASKED), _METHOD)
        and _keeps_method(view)
    )


def _is_one(values: Sequence[str], expected: re.Pattern[str]) -> bool:
    return len(values) == 1 and expected.fullmatch(values[0]) is not None


def _keeps_method(view: RequestView) -> bool:
    """Applications replace the method by that of a field such as X-HTTP-Method-Override, and browsers never send one.

    In every spelling that an application may fold. A proxy's `X-Forwarded-Method: OPTIONS` replaces nothing.
    """
    others = (name for name in view.field_names() if "method" in name and name != _ASKED)
    return all(value == "OPTIONS" for name in others for value in view.headers(name))
