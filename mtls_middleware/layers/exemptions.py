"""`Exemptions`: the requests that a layer never rejects, by path or because they are CORS preflights."""

import re
from collections.abc import Collection, Sequence

from mtls_middleware import options
from mtls_middleware.layers.paths import PathSet
from mtls_middleware.request import RequestView

_REQUESTED_METHOD = "access-control-request-method"
# Matches a single value, because servers join the lines of a field with a comma. A method is a token (RFC 9110 5.6.2).
_ORIGIN = re.compile(r"[^\s,]+")
_METHOD = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


class Exemptions:
    """The exemptions of one layer, from its arguments `exempt` and `exempt_preflight`. Raises `ConfigurationError`."""

    def __init__(self, paths: Collection[str], preflight: bool) -> None:
        options.boolean("exempt_preflight", preflight)
        self.paths: PathSet = PathSet("exempt", paths, below=True)
        self._preflight = preflight

    def __bool__(self) -> bool:
        """Whether the layer exempts any requests at all."""
        return self._preflight or bool(self.paths)

    def cover(self, view: RequestView) -> bool:
        """Return whether the request is exempt.

        Raises `Refused` if this depends on how the application reads the path.
        """
        return (self._preflight and _is_preflight(view)) or self.paths.covers(view)


def _is_preflight(view: RequestView) -> bool:
    """Return whether the request is a CORS preflight (Fetch standard, CORS-preflight request)."""
    return (
        view.method == "OPTIONS"
        and _is_single(view.headers("origin"), _ORIGIN)
        and _is_single(view.headers(_REQUESTED_METHOD), _METHOD)
        and not _overrides_method(view)
    )


def _is_single(values: Sequence[str], expected: re.Pattern[str]) -> bool:
    return len(values) == 1 and expected.fullmatch(values[0]) is not None


def _overrides_method(view: RequestView) -> bool:
    """Return whether a field such as `X-HTTP-Method-Override` may make the application use another method.

    Browsers never send such a field in a preflight. Any name that contains "method" counts, because applications may
    fold names. A field with the value `OPTIONS`, for example a proxy's `X-Forwarded-Method`, is harmless.
    """
    names = (name for name in view.field_names() if "method" in name and name != _REQUESTED_METHOD)
    return any(value != "OPTIONS" for name in names for value in view.headers(name))
