"""`python -m tests.smuggling`: every payload, in every kind, through every proxy, to every server, with and without
the secret. The exit status is 1 if an attack succeeds, other than in front of a server that is known to be unsafe.
"""

import argparse
import sys
import time
from collections import Counter

from mtls_middleware.cli.proxies import PROXIES
from tests.smuggling import campaign, report, stage
from tests.smuggling.findings import EFFECTS, Finding
from tests.smuggling.payload import GROUPS
from tests.smuggling.servers import SERVERS
from tests.smuggling.stage import Configuration, Stage

SECRETS = {"on": (True,), "off": (False,), "both": (False, True)}


def options(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.smuggling", description=__doc__)
    parser.add_argument("--proxies", nargs="+", choices=tuple(PROXIES), default=list(PROXIES))
    parser.add_argument("--servers", nargs="+", choices=tuple(SERVERS), default=list(SERVERS), metavar="SERVER")
    parser.add_argument("--groups", nargs="+", choices=GROUPS, default=list(GROUPS))
    parser.add_argument("--secret", choices=tuple(SECRETS), default="both")
    parser.add_argument("--share", type=float, default=1.0, help="send a sample of the payloads, for example 0.1")
    parser.add_argument("--seed", default="", help="which sample; default: another one for each server")
    parser.add_argument("--repeat", type=int, default=1, help="how often each attack is sent; default: %(default)s")
    parser.add_argument("--show", type=int, default=3, help="findings to print for each server; default: %(default)s")
    parser.add_argument("--write", action="store_true", help="write results.json, for docs/smuggling-results.md")
    return parser.parse_args(arguments)


def against(name: str, running: Stage, wanted: argparse.Namespace) -> tuple[list[report.Cell], list[Finding]]:
    """Every attack on one server. Returns a cell for each configuration, and the findings."""
    attacks = campaign.chosen(wanted.groups, wanted.share, wanted.seed or name)
    outcome = campaign.CampaignResult()
    with stage.server(name, running) as control:
        for number in range(wanted.repeat):
            outcome.add(campaign.run(running, name, attacks, control, number))
    return [report.cell(outcome, each, name, control[each]) for each in running.ports], outcome.findings


def line(cell: report.Cell, seconds: float) -> str:
    secret = "secret" if cell["secret"] else "address"
    effects = ", ".join(f"{name} {count}" for name, count in cell["effects"].items()) or "nothing"
    return (
        f"{cell['proxy']:8} {cell['server']:24} {secret:8} control: {cell['control']:12} attacks: {cell['attempts']:5} "
        f"succeeded: {cell['succeeded']:3} ({effects}) {seconds:.0f} s"
    )


def main(arguments: list[str]) -> int:
    wanted = options(arguments)
    configurations = [Configuration(proxy, secret) for secret in SECRETS[wanted.secret] for proxy in wanted.proxies]
    cells: list[report.Cell] = []
    with stage.proxies(configurations) as running:
        for name in wanted.servers:
            begun = time.monotonic()
            found, findings = against(name, running, wanted)
            cells += found
            for each in found:
                print(line(each, time.monotonic() - begun), flush=True)
            for finding in findings[: wanted.show]:
                print(f"    {finding}", flush=True)
            if wanted.write:
                report.write(cells)
    return summary(cells)


def summary(cells: list[report.Cell]) -> int:
    effects: Counter[str] = Counter()
    for each in cells:
        effects.update(each["effects"])
    bad = [each for each in cells if each["effects"]]
    asserted = [each for each in bad if not SERVERS[each["server"]].known_bad]
    print(f"{sum(each['attempts'] for each in cells)} attacks, {len(cells)} combinations")
    print(
        f"combinations with a violation: {len(bad)}, without the servers that are known to be unsafe: {len(asserted)}"
    )
    for name, meaning in EFFECTS.items():
        print(f"{effects[name]:6} {name}: {meaning}")
    return 1 if asserted else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
