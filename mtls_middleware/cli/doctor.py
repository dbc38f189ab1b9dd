"""`mtls-middleware doctor MODULE:APP`: looks at a wired application, and at the command that starts its server.

Must never know: requests. It imports the application and starts nothing.
"""

import argparse
import json
import shlex
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from mtls_middleware.cli import traps
from mtls_middleware.errors import ConfigurationError
from mtls_middleware.resource_flow import CertificateLayer, TokenLayer
from mtls_middleware.sources.header import HeaderSource
from mtls_middleware.token_flow import ClientLayer

# Under these names applications and middleware keep the application inside of them.
_INNER = ("_app", "app", "wsgi_app", "asgi_app", "application", "wrapped")
_DEPTH = 64


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing to know; `severity`: an "error" must be changed, a "warning" looked at, a "note" known."""

    severity: str
    what: str
    advice: str


def arguments(parser: argparse.ArgumentParser) -> None:
    """Say which options the command takes."""
    parser.add_argument("application", metavar="MODULE:APP", help="as its server names it, for example shop.wsgi:app")
    parser.add_argument(
        "--server", metavar="COMMAND", help='how its server is started, for example "gunicorn shop.wsgi:app"'
    )
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(options: argparse.Namespace) -> int:
    """Print the findings; 1 where one of them is an error. Raises `ConfigurationError` for what cannot be imported."""
    layers = list(layers_of(load(options.application)))
    found = list(examine(layers))
    if options.server is not None:
        sources = [layer.source for layer in layers if isinstance(layer, CertificateLayer)]
        found += [Finding(*each) for each in traps.of_command(shlex.split(options.server), sources)]
    if options.json:
        sys.stdout.write(
            json.dumps([{"severity": f.severity, "what": f.what, "advice": f.advice} for f in found]) + "\n"
        )
    else:
        sys.stdout.writelines(f"{f.severity:8} {f.what}\n         {f.advice}\n" for f in found)
        if not found:
            sys.stdout.write("nothing found\n")
    return int(any(finding.severity == "error" for finding in found))


def load(name: str) -> Any:
    """The object that `MODULE:APP` names. Raises `ConfigurationError`."""
    module, _, path = name.partition(":")
    sys.path.insert(0, "")  # as servers do: the folder that the command is run in
    try:
        found = import_module(module)
        for attribute in path.split("."):
            found = getattr(found, attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigurationError(f"{name}: {error}; expected MODULE:APP, for example shop.wsgi:app") from error
    return found


def layers_of(application: Any) -> Iterator[Any]:
    """Our layers around and in `application`, the outermost first."""
    seen: set[int] = set()
    current = application
    for _ in range(_DEPTH):
        if current is None or id(current) in seen:
            return
        seen.add(id(current))
        for layer in getattr(current, "_layers", None) or ():
            if isinstance(layer, (CertificateLayer, TokenLayer, ClientLayer)):
                yield layer
        for middleware in getattr(current, "user_middleware", None) or ():  # Starlette's, outermost first
            yield from layers_of(_built(middleware))
        current = next((inner for name in _INNER if (inner := _attribute(current, name)) is not None), None)


def _attribute(owner: Any, name: str) -> Any:
    value = getattr(owner, name, None)
    # A method of the owner, such as Flask's own wsgi_app, is no application inside of it.
    return None if getattr(value, "__self__", None) is owner or not callable(value) else value


def _built(middleware: Any) -> Any:
    """One of Starlette's `Middleware(cls, ...)`, made around nothing."""
    if not getattr(middleware.cls, "__module__", "").startswith("mtls_middleware."):
        return None

    async def nothing(*_: Any) -> None: ...

    return middleware.cls(nothing, *middleware.args, **middleware.kwargs)


def examine(layers: list[Any]) -> Iterator[Finding]:
    """What the wiring itself shows."""
    if not layers:
        yield Finding(
            "error", "no layer of mtls-middleware found", "wrap the application, for example by protect(app, ...)"
        )
    certificate_seen = False
    for layer in layers:
        if isinstance(layer, CertificateLayer):
            certificate_seen = True
            yield from _about_source(layer)
        elif not certificate_seen:
            name = (
                "CertificateBoundTokenMiddleware" if isinstance(layer, TokenLayer) else "ClientAuthenticationMiddleware"
            )
            yield Finding(
                "error",
                f"{name} stands outside of ClientCertificateMiddleware: every request is answered 500",
                f"wrap the other way round: ClientCertificateMiddleware({name}(app, ...), source)",
            )


def _about_source(layer: CertificateLayer) -> Iterator[Finding]:
    source = layer.source
    if not isinstance(source, HeaderSource):
        return
    if not source.can_verify and layer.trust_store is None:
        yield Finding(
            "note",
            f"{source!r} gives certificates that nobody verified (PRESENTED)",
            "enough to bind tokens to; for identities give verify_header=, verified_by_proxy=True or a trust_store=",
        )
