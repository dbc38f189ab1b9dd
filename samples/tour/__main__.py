"""The tour: starts the samples on real servers, sends requests to them, and shows the responses.

With `--serve`, the servers keep running, and the tour prints curl commands. Exits 0 only if every response is as
expected.
"""

import argparse
import contextlib
import signal
import sys
import tempfile
import time
from pathlib import Path

import internal
import oauth
import services
import users
from world import World, console


def main() -> int:
    parser = argparse.ArgumentParser(prog="tour", description="Runs the samples on real servers.")
    parser.add_argument("--serve", action="store_true", help="leave the servers running, and print curl commands")
    serve = parser.parse_args().serve
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the servers are stopped too
    # A shell starts a background process with SIGINT ignored, and Python then leaves it ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with tempfile.TemporaryDirectory(prefix="mtls-tour-") as directory, contextlib.ExitStack() as servers:
        world = World(Path(directory))
        results = oauth.visit(world, servers) + internal.visit(world, servers)
        results += services.visit(world, servers, issuer=world.issuer)
        results += users.visit(world, servers)
        console.print(f"\n[bold]{sum(results)} of {len(results)} responses are as expected.[/]")
        if serve and all(results):
            issuer, *apis = world.urls
            print_curl_commands(world, issuer, apis)
            with contextlib.suppress(KeyboardInterrupt):
                while True:
                    time.sleep(3600)
        return 0 if all(results) else 1


def print_curl_commands(world: World, issuer: str, apis: list[str]) -> None:
    directory = world.directory
    console.print()
    console.rule("[bold]Try it yourself[/]  the servers run until you press Ctrl-C", align="left")
    curl = f"curl -s -w '\\n' --cacert {directory}/ca.pem"
    billing, desktop = (
        f"--cert {directory}/{name}.pem --key {directory}/{name}-key.pem" for name in ("billing", "desktop")
    )
    extract = """python3 -c 'import json, sys; print(json.load(sys.stdin)["access_token"])'"""
    form = "-d grant_type=client_credentials -d client_id=billing"
    print(f"TOKEN=$({curl} {billing} {form} {issuer}/token | {extract})")
    for url in apis:
        print(f'{curl} {billing} -H "Authorization: Bearer $TOKEN" -i {url}/invoices')
        print(f'{curl} {desktop} -H "Authorization: Bearer $TOKEN" -i {url}/invoices')
        print(f'{curl} -H "Authorization: Bearer $TOKEN" -i {url}/invoices')
        print(f"{curl} -i {url}/health", flush=True)


if __name__ == "__main__":
    sys.exit(main())
