"""`mtls-middleware doctor MODULE:APP` looks at a wired application, and at the command that starts its server.

It imports the application, reads files that the command names, and starts nothing.
"""

import argparse
import json
import os
import shlex
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from mtls_middleware.cli import findings, traps
from mtls_middleware.cli.roots import roots
from mtls_middleware.cli.server_command import is_server
from mtls_middleware.cli.wiring import Wired, layers_of, takes
from mtls_middleware.errors import ConfigurationError
from mtls_middleware.layers.certificate import CertificateLayer
from mtls_middleware.layers.token import TokenLayer
from mtls_middleware.sources.header import HeaderSource


@dataclass(frozen=True, slots=True)
class Finding:
    """One finding. `severity`: change an "error", look at a "warning", know a "note"."""

    severity: str
    what: str
    advice: str


def arguments(parser: argparse.ArgumentParser) -> None:
    """Say which options the command takes."""
    parser.add_argument("application", metavar="MODULE:APP", help="as its server names it, for example shop.wsgi:app")
    parser.add_argument(
        "--server",
        metavar="COMMAND",
        help='how its server is started, for example "gunicorn shop.wsgi:app"; run doctor in the folder and with the '
        "environment of the server, because it reads the server's variables and files as well",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(options: argparse.Namespace) -> int:
    """Print the findings. Raises `ConfigurationError` if the application cannot be imported.

    Returns 1 if one of the findings is an error.
    """
    command = _words(options.server)
    wired = list(layers_of(load(options.application)))
    found = list(examine(wired))
    if command is not None:
        found += [Finding(*each) for each in findings.of_command(command, wired, os.environ)]
    found += [Finding(*each) for each in roots(wired, command, os.environ)]
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


def examine(wired: Sequence[Wired]) -> Iterator[Finding]:
    """What the wiring itself shows."""
    if not wired:
        yield Finding(
            "error", "no layer of mtls-middleware found", "wrap the application, for example with protect(app, ...)"
        )
    certificate_seen = False
    for each in wired:
        yield from _about_gateway(each)
        if isinstance(each.layer, CertificateLayer):
            certificate_seen = True
            yield from _about_source(each.layer)
            yield from _about_adapter(each)
        elif not certificate_seen:
            name = (
                "CertificateBoundTokenMiddleware"
                if isinstance(each.layer, TokenLayer)
                else "ClientAuthenticationMiddleware"
            )
            yield Finding(
                "error",
                f"{name} is outside of ClientCertificateMiddleware: every request is answered 500",
                f"wrap in the other order: ClientCertificateMiddleware({name}(app, ...), source)",
            )


def _about_gateway(wired: Wired) -> Iterator[Finding]:
    inner = takes(wired.inner)
    if inner is not None and inner != wired.gateway:
        yield Finding(
            "error",
            f"a layer of mtls_middleware.{wired.gateway.lower()} is around an application that is {inner}",
            f"import it from mtls_middleware.{inner.lower()}",
        )


def _about_source(layer: CertificateLayer) -> Iterator[Finding]:
    source = layer.source
    if not isinstance(source, HeaderSource):
        return
    if not source.can_verify and layer.trust_store is None:
        yield Finding(
            "note",
            f"{source!r} gives certificates that are not verified (PRESENTED)",
            "enough to bind tokens to; for identities give verify_header=, verified_by_proxy=True or a trust_store=",
        )
    if source.trusts_address_alone:
        yield Finding(
            "warning",
            f"{source!r} trusts an address alone (trusted_proxies=): an attacker who smuggles a request onto the "
            "proxy's connection, or tunnels through the proxy, has the proxy's address",
            "add a secret: shared_secret=(header, value); mtls-middleware proxy-config writes one. It is a second line "
            "of defence and not a cure: half a smuggled request inherits the secret of the request that completes it",
        )


def _about_adapter(wired: Wired) -> Iterator[Finding]:
    source = wired.layer.source
    if wired.folding is None or not isinstance(source, HeaderSource):
        return
    if source.reads_hyphens:
        yield Finding("error", f"{wired.folding} {traps.FOLDS}", traps.FOLDS_ADVICE)
    if source.needs_address:
        yield Finding("error", f"{wired.folding} {traps.HIDES}", traps.HIDES_ADVICE)


def _words(command: str | None) -> list[str] | None:
    if command is None:
        return None
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise ConfigurationError(
            f'--server {command!r}: {error}; expected a command line, for example "gunicorn shop.wsgi:app"'
        ) from error
    # sh -c "exec gunicorn ...": the command is one word.
    return [part for word in words for part in (_words(word) or [] if _is_script(word) else [word])]


def _is_script(word: str) -> bool:
    return len(parts := word.split()) > 1 and any(map(is_server, parts))
