"""What the long command found, as the data behind docs/smuggling-results.md."""

import json
import subprocess
from collections import Counter
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from mtls_middleware.cli.proxies import PROXIES
from tests.proxies import programs
from tests.smuggling.campaign import CampaignResult, chosen
from tests.smuggling.payload import GROUPS
from tests.smuggling.stage import Configuration

FILE = Path(__file__).with_name("results.json")
PACKAGES = (
    "gunicorn", "gevent", "uvicorn", "h11", "httptools", "zttp", "hypercorn", "h2", "daphne", "twisted", "waitress",
    "granian", "cheroot", "werkzeug",
)  # fmt: skip
# Our name -> Debian's package.
DEBIAN = {"uWSGI": "uwsgi-core", "mod_wsgi": "libapache2-mod-wsgi-py3"}

Cell = dict[str, Any]


def cell(outcome: CampaignResult, configuration: Configuration, server: str, control: str) -> Cell:
    """One proxy in front of one server. `succeeded` counts attacks, and `effects` says what they achieved.

    An answer that goes to the wrong client can be the work of an earlier attack, so it does not count as one.
    """
    mine = [
        each for each in outcome.findings
        if (each.proxy, each.server, each.secret) == (configuration.proxy, server, configuration.secret)
    ]  # fmt: skip
    attacks = sorted({f"{each.payload} ({each.kind})" for each in mine if each.effect != "exchanged"})
    return {
        "proxy": configuration.proxy,
        "server": server,
        "secret": configuration.secret,
        "control": control,
        "attempts": outcome.attempts[configuration],
        "succeeded": len(attacks),
        "effects": dict(sorted(Counter(each.effect for each in mine).items())),
        "payloads": attacks[:20],
    }


def write(cells: list[Cell]) -> None:
    """Replace these cells in the file, and keep the cells that this run did not measure."""
    before = load()["cells"] if FILE.exists() else []
    measured = {place(each) for each in cells}
    merged = sorted([each for each in before if place(each) not in measured] + cells, key=place)
    groups = {group: len(chosen([group])) for group in GROUPS}
    data = {"date": f"{datetime.now(UTC):%Y-%m-%d}", "versions": versions(), "attacks": groups, "cells": merged}
    FILE.write_text(json.dumps(data, indent=1) + "\n", "utf-8")


def load() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(FILE.read_text("utf-8"))
    return found


def place(each: Cell) -> tuple[str, str, bool]:
    return each["proxy"], each["server"], each["secret"]


def versions() -> dict[str, str]:
    return (
        {name: programs.version(name) for name in PROXIES}
        | {name: version(name) for name in PACKAGES}
        | {name: _debian(package) for name, package in DEBIAN.items()}
    )


def _debian(package: str) -> str:
    command = ["dpkg-query", "--show", "--showformat", "${Version}", package]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.partition("-")[0]
