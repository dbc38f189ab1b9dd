"""The command `mtls-middleware doctor MODULE:APP`: checks an application and the command that starts its server.

The command imports the application, and reads the files that the server's command names. It does not start a server.
"""

import argparse
import os
import shlex
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from mtls_middleware.cli import findings, outer_findings, trap
from mtls_middleware.cli.applications import load
from mtls_middleware.cli.roots import roots
from mtls_middleware.cli.server_command import is_server
from mtls_middleware.cli.terminal import Colour, coloured, write_json
from mtls_middleware.cli.wiring import LayerPlacement, gateway_of_application, layers_of
from mtls_middleware.errors import ConfigurationError
from mtls_middleware.layers.certificate import CertificateLayer
from mtls_middleware.layers.token import TokenLayer
from mtls_middleware.sources.header import HeaderSource
from mtls_middleware.sources.products import Caddy

_COLOURS: dict[str, Colour] = {"error": "red", "warning": "yellow", "note": "green"}


@dataclass(frozen=True, slots=True)
class Finding:
    """One finding of `doctor`.

    Attributes:
        severity: "error" (the operator must change something), "warning" (the operator should check something) or
            "note" (information only).
        what: the problem.
        advice: what the operator can change.
    """

    severity: str
    what: str
    advice: str


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command `doctor` to `parser`."""
    parser.add_argument("application", metavar="MODULE:APP", help="the application, for example shop.wsgi:app")
    parser.add_argument(
        "--server",
        metavar="COMMAND",
        help='the command that starts the server, for example "gunicorn shop.wsgi:app"; run doctor in the folder '
        "and with the environment of the server, because doctor also reads the server's variables and files",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(options: argparse.Namespace) -> int:
    """Print the findings. Return 1 if a finding has the severity "error", otherwise 0.

    Raises `ConfigurationError` if the application cannot be imported.
    """
    command = _words(options.server)
    placements = list(layers_of(load(options.application)))
    found = list(examine(placements))
    rows = [] if command is None else list(findings.of_command(command, placements, os.environ))
    rows += roots(placements, command, os.environ)
    rows += outer_findings.of_exemptions(placements)
    rows += outer_findings.of_outer_middleware(placements)
    rows += outer_findings.of_django_settings(command, placements)
    found += [Finding(*row) for row in rows]
    if options.json:
        write_json([{"severity": f.severity, "what": f.what, "advice": f.advice} for f in found])
    else:
        for each in found:
            severity = coloured(f"{each.severity:8}", _COLOURS[each.severity])
            sys.stdout.write(f"{severity} {each.what}\n         {each.advice}\n")
        if not found:
            sys.stdout.write("no findings\n")
    return int(any(finding.severity == "error" for finding in found))


def examine(placements: Sequence[LayerPlacement]) -> Iterator[Finding]:
    """Yield the findings about the layers of an application. The server's command is not considered."""
    if not placements:
        yield Finding(
            "error", "no layer of mtls-middleware found", "wrap the application, for example with protect(app, ...)"
        )
    certificate_seen = False
    for each in placements:
        yield from _gateway_findings(each)
        if isinstance(each.layer, CertificateLayer):
            certificate_seen = True
            yield from _source_findings(each.layer)
            yield from _adapter_findings(each)
        elif not certificate_seen:
            name = (
                "CertificateBoundTokenMiddleware"
                if isinstance(each.layer, TokenLayer)
                else "ClientAuthenticationMiddleware"
            )
            yield Finding(
                "error",
                f"{name} is outside of ClientCertificateMiddleware: every request gets 500",
                f"wrap them in the other order: ClientCertificateMiddleware({name}(app, ...), source)",
            )


def _gateway_findings(placement: LayerPlacement) -> Iterator[Finding]:
    inner = gateway_of_application(placement.inner)
    if inner is not None and inner != placement.gateway:
        yield Finding(
            "error",
            f"a layer of mtls_middleware.{placement.gateway.lower()} wraps an application that uses {inner}",
            f"import the layer from mtls_middleware.{inner.lower()}",
        )


def _source_findings(layer: CertificateLayer) -> Iterator[Finding]:
    source = layer.source
    if not isinstance(source, HeaderSource):
        return
    if not source.can_verify and layer.trust_store is None:
        yield Finding(
            "note",
            f"{source!r} gives unverified certificates (PRESENTED)",
            "this is enough for certificate-bound tokens; to trust the names in certificates, give verify_header=, "
            "verified_by_proxy=True or a trust_store=",
        )
    if isinstance(source, Caddy) and source.can_verify:
        yield Finding(
            "warning",
            f"{source!r} relies on Caddy, which did not enforce client certificates over HTTP/3 in every case (Caddy "
            "issue 7953)",
            "turn HTTP/3 off in the Caddyfile: servers { protocols h1 h2 }, as mtls-middleware proxy-config writes it; "
            "doctor cannot read the Caddyfile, so it always gives this warning",
        )
    if source.trusts_address_alone:
        yield Finding(
            "warning",
            f"{source!r} trusts the peer's address alone (trusted_proxies=): an attacker who smuggles a request onto "
            "the proxy's connection, or tunnels through the proxy, has the proxy's address",
            "add a secret: shared_secret=(header, value); mtls-middleware proxy-config generates a secret. A secret is "
            "a second line of defence and not a cure: an incomplete smuggled request gets the secret of the request "
            "that completes it",
        )


def _adapter_findings(placement: LayerPlacement) -> Iterator[Finding]:
    source = placement.layer.source
    if placement.folding is None or not isinstance(source, HeaderSource):
        return
    if source.reads_hyphens:
        yield Finding("error", f"{placement.folding} {trap.FOLDS}", trap.FOLDS_ADVICE)
    if source.needs_address:
        yield Finding("error", f"{placement.folding} {trap.HIDES}", trap.HIDES_ADVICE)


def _words(command: str | None) -> list[str] | None:
    if command is None:
        return None
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise ConfigurationError(
            f'--server {command!r}: {error}; expected a command line, for example "gunicorn shop.wsgi:app"'
        ) from error
    # In `sh -c "exec gunicorn ..."`, the whole command of the server is one word, so this word is split again.
    return [part for word in words for part in (_words(word) or [] if _is_script(word) else [word])]


def _is_script(word: str) -> bool:
    return len(parts := word.split(" ")) > 1 and any(map(is_server, parts))
