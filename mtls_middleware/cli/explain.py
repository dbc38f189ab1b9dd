"""The command `mtls-middleware explain MODULE:APP REQUEST`: runs the decision about a recorded request, step by step.

The command imports the application, and calls its layers. It does not call the application itself. A layer that needs
the issuer's keys, an introspection response or a CRL requests them as for a real request.
"""

import argparse
import asyncio
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from mtls_middleware import asgi_request, wsgi_request
from mtls_middleware.cli import moment, recorded_request
from mtls_middleware.cli.applications import load
from mtls_middleware.cli.terminal import Colour, coloured, write_json
from mtls_middleware.cli.trace import Step, Trace
from mtls_middleware.cli.wiring import LayerPlacement, layers_of
from mtls_middleware.effects.flow import AwaitingDriver, BlockingDriver
from mtls_middleware.errors import ConfigurationError
from mtls_middleware.layers.application_prefixes import ApplicationPrefixes
from mtls_middleware.layers.stack import Stack
from mtls_middleware.names.invisible import escape_invisible
from mtls_middleware.responses import LayerResponse, response_for

_WIDTH = 110


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command `explain` to `parser`."""
    parser.add_argument("application", metavar="MODULE:APP", help="the application, for example shop.wsgi:app")
    parser.add_argument(
        "request", metavar="REQUEST", type=Path, help="a JSON file with the peer, the path and the header fields"
    )
    parser.add_argument(
        "--at", metavar="TIME", help="decide as at this time, for example 2027-01-31 or 2027-01-31T12:00:00+00:00"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(options: argparse.Namespace) -> int:
    """Print the steps of the decision. Return 0 if the request reaches the application, otherwise 1.

    Raises `ConfigurationError` if the application or the request cannot be read.
    """
    recorded = recorded_request.read(options.request)
    application = load(options.application)
    placements = _direct(list(layers_of(application)))
    own_root = getattr(application, "root_path", "")
    # FastAPI's own root_path replaces the server's value before the middleware runs.
    if own_root and isinstance(own_root, str):
        recorded = replace(recorded, root_path=own_root)
    steps, response = explain(placements, recorded, None if options.at is None else moment.seconds_of(options.at))
    result = {
        "status": None if response is None else response.status,
        "headers": [] if response is None else [list(each) for each in response.headers],
        "body": "" if response is None else response.body.decode("utf-8", "replace"),
        "reaches_application": response is None,
    }
    if options.json:
        write_json({"steps": [asdict(step) for step in steps], "result": result})
    else:
        sys.stdout.writelines(_lines(steps, response))
    return 0 if response is None else 1


def explain(
    placements: list[LayerPlacement], recorded: recorded_request.RecordedRequest, at: float | None = None
) -> tuple[list[Step], LayerResponse | None]:
    """Return the steps of the decision, and the response of the layers.

    The response is `None` if the layers accept the request.

    Arguments: `at`, the time of the request in seconds since the epoch; by default now.

    Example: `explain(list(layers_of(app)), recorded_request.read(Path("request.json")))`
    """
    trace = Trace()
    prefixes = ApplicationPrefixes(placements[-1].inner)
    layers = trace.layers(tuple(each.layer for each in placements))
    request: Any
    is_wsgi = placements[0].gateway == "WSGI"
    if is_wsgi:
        request = wsgi_request.WSGIRequest(recorded.to_environ(), None, prefixes)
        stack = Stack(layers, wsgi_request.facts_reader)
    else:
        request = asgi_request.ASGIRequest(recorded.to_scope(), _no_body, prefixes)
        stack = Stack(layers, asgi_request.facts_reader)
    request.now = request.now if at is None else at
    request.layer = layers[0]
    try:
        if stack.root_path is not None:
            request.mount(stack.root_path)
        flow = stack.decide(request)
        response = BlockingDriver().run(flow) if is_wsgi else asyncio.run(AwaitingDriver().run(flow))
    except Exception as error:  # noqa: BLE001 (a gateway also rejects the request after any exception)
        response = response_for(error, request.layer.challenge)
    return trace.steps, response


async def _no_body() -> dict[str, Any]:
    return {"type": "http.request", "body": b"", "more_body": False}


def _direct(placements: list[LayerPlacement]) -> list[LayerPlacement]:
    """Return the layers through which every request goes.

    Raises `ConfigurationError` if the application has no such layer.
    """
    direct = [each for each in placements if not each.is_mounted]
    if direct:
        _require_simple(direct, placements)
        return direct
    if placements:
        raise ConfigurationError(
            "the layers are in applications that this one mounts; expected the mounted application as MODULE:APP"
        )
    raise ConfigurationError(
        "the application has no layer of mtls-middleware: wrap it, for example in protect(app, ...)"
    )


def _require_simple(direct: list[LayerPlacement], placements: list[LayerPlacement]) -> None:
    """Raise `ConfigurationError` if something between the server and the layers can change the request."""
    problem = ""
    if len(direct) < len(placements):
        problem = "further layers are in applications that this one mounts"
    elif any(each.folding or each.served != each.gateway for each in direct):
        problem = "an adapter between WSGI and ASGI is around a layer"
    elif len({each.gateway for each in direct}) > 1:
        problem = "the layers are of both gateways"
    elif any(each.outside for each in direct):
        problem = f"{direct[0].outside[0] if direct[0].outside else 'other middleware'} is outside of a layer"
    if problem:
        raise ConfigurationError(
            f"cannot explain: {problem}, so a layer may get another request than the recorded one; expected as "
            "MODULE:APP the object with all layers, for example the result of protect(app, ...)"
        )


def _lines(steps: list[Step], response: LayerResponse | None) -> Iterator[str]:
    for number, step in enumerate(steps, 1):
        colour = _colour(step.decision)
        yield f"{number}. {step.step}\n"
        yield from _row("saw", step.saw)
        yield from _row("decided", step.decision, colour)
        yield from _row("why", step.why)
        yield from _row("to change this", step.change)
    if response is None:
        yield coloured("The request reaches the application.\n", "green")
    else:
        yield coloured(f"The client gets {response.status}: {response.body.decode('utf-8', 'replace')}\n", "red")


def _colour(decision: str) -> Colour:
    return "red" if decision.startswith(("rejected", "failed", "not")) else "yellow" if "no " in decision else "green"


def _row(label: str, text: str | None, colour: Colour | None = None) -> Iterator[str]:
    if text is None:
        return
    for position, line in enumerate(
        textwrap.wrap(escape_invisible(text), _WIDTH - 18, break_long_words=False, break_on_hyphens=False)
    ):
        shown = line if colour is None else coloured(line, colour)
        yield f"   {label if position == 0 else '':15}{shown}\n"
