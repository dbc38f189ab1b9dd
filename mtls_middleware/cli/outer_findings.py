"""Finds mistakes around the layers: too many exempt paths, middleware outside of the layers, and Django's settings."""

import sys
from collections.abc import Iterator, Sequence
from importlib import import_module
from typing import Any

from mtls_middleware.cli.server_command import needs_address
from mtls_middleware.cli.wiring import LayerPlacement, layers_of
from mtls_middleware.layers.certificate import CertificateLayer
from mtls_middleware.layers.token import TokenLayer

Row = tuple[str, str, str]

# The middleware of werkzeug that keeps the original address of the peer. The library reads that address.
_KEEPS_ADDRESS = "werkzeug's ProxyFix"
# Parts of the names of middleware that replaces the peer's address by an address from a header field.
_REWRITERS = (
    "remoteip",
    "clientip",
    "paste's prefixmiddleware",
    "proxy",
    "forwarded",
    "realip",
    "real_ip",
    "remoteaddr",
    "xff",
)


def of_exemptions(placements: Sequence[LayerPlacement]) -> Iterator[Row]:
    """Yield the findings about `exempt=`."""
    by_kind: dict[type, set[str]] = {}
    for each in placements:
        exemptions = getattr(each.layer, "_exemptions", None)
        if exemptions is None:
            continue
        exact, below = exemptions.paths._exact, exemptions.paths._below
        by_kind.setdefault(type(each.layer), set()).update(exact, (f"{path}*" for path in below))
        if "/" in below:
            yield (
                "error",
                "exempt= has '/*': this layer rejects no request below '/'",
                "name only the paths that need no certificate, for example exempt=['/health', '/static/*']",
            )
        allow = getattr(each.layer, "_allow", None)
        for path in sorted({} if allow is None else allow._positions):
            if path != "/" and (path in exact or f"{path}/".startswith(below or ("\0",))):
                yield (
                    "error",
                    f"{path!r} is in exempt=, so its rule in allow= rejects nothing",
                    "remove the path from exempt=, or the rule from allow=",
                )
    if {CertificateLayer, TokenLayer} <= by_kind.keys():
        for path in sorted(by_kind[TokenLayer] - by_kind[CertificateLayer]):
            yield (
                "warning",
                f"{path!r} is exempt from the token layer and not from the certificate layer: it still needs what the "
                "certificate layer requires",
                "add the path to exempt= of ClientCertificateMiddleware if requests for it need no certificate",
            )


def of_outer_middleware(placements: Sequence[LayerPlacement]) -> Iterator[Row]:
    """Yield the findings about middleware outside of the layers."""
    reads_address = any(map(needs_address, placements))
    is_repeated = any(each.outside.count(_KEEPS_ADDRESS) > 1 for each in placements)
    for name in dict.fromkeys(name for each in placements for name in each.outside):
        if reads_address and is_repeated and name == _KEEPS_ADDRESS:
            yield (
                "error",
                "ProxyFix is outside of the layers twice: the second one hides the peer's own address",
                "wrap the application in one ProxyFix",
            )
        elif reads_address and name != _KEEPS_ADDRESS and any(word in name.lower() for word in _REWRITERS):
            yield (
                "error",
                f"{name} is outside of the layers and may replace the peer's address, which trusted_proxies= reads, by "
                "an address from a header field",
                "put it inside of the layers: protect(Middleware(app), ...); or give shared_secret= without "
                "trusted_proxies=",
            )
        else:
            yield (
                "note",
                f"{name} is outside of the layers: it gets requests that no layer has checked, and its own responses "
                "need no certificate",
                "put it inside of the layers, unless it must also see rejected requests: protect(Middleware(app), ...)",
            )


def of_django_settings(words: Sequence[str] | None, placements: Sequence[LayerPlacement]) -> Iterator[Row]:
    """Yield the findings about what Django's `runserver` serves. Imports the application that the settings name."""
    if words is None or "runserver" not in words or "django" not in sys.modules or not placements:
        return
    from django.conf import settings

    if not settings.configured:
        return
    uses_daphne = any(app.partition(".")[0] == "daphne" for app in settings.INSTALLED_APPS)
    name = "ASGI_APPLICATION" if uses_daphne else "WSGI_APPLICATION"
    served = getattr(settings, name, None)
    if served is None:
        what = f"{name} is not set, so runserver serves Django without the layers"
    elif any(True for _ in layers_of(_imported(served))):
        return
    else:
        what = f"runserver serves {name} = {served!r}, which has no layer of mtls-middleware"
    yield ("error", what, f"set {name} to the application with the layers, for example 'shop.wsgi.application'")


def _imported(dotted: str) -> Any:
    module, _, name = dotted.rpartition(".")
    try:
        return getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError):
        return None
