"""The requests that a layer lets through although it would reject them: exempt paths, and CORS preflights."""

from collections.abc import Collection

from mtls_middleware.errors import ConfigurationError
from mtls_middleware.paths import PathSet
from mtls_middleware.request import RequestView

# Applications replace the method of a request by that of such a field. Browsers never send one in a preflight.
_OVERRIDES = ("x-http-method-override", "x-http-method", "x-method-override")


class Exemptions:
    """One layer's exemptions. Raises `ConfigurationError`."""

    def __init__(self, paths: Collection[str], preflight: bool) -> None:
        if preflight not in (True, False):
            raise ConfigurationError(f"exempt_preflight={preflight!r}: expected True or False")
        self.paths: PathSet = PathSet("exempt", paths, below=True)
        self._preflight = preflight

    def cover(self, view: RequestView) -> bool:
        """Raises `Refused` if the answer depends on how the application reads the path."""
        return (self._preflight and _is_preflight(view)) or self.paths.covers(view)


def _is_preflight(view: RequestView) -> bool:
    """Whether this is a CORS preflight (Fetch standard, CORS-preflight request)."""
    return (
        view.method == "OPTIONS"
        and len(view.headers("origin")) == 1
        and len(view.headers("access-control-request-method")) == 1
        and not any(map(view.headers, _OVERRIDES))
    )
