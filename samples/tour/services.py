"""The third part of the tour: two services that call each other while their SPIFFE certificates rotate."""

import contextlib
import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
from servers import SAMPLES, free_ports, run_server
from world import Response, Step, World, console, show

from mtls_middleware.client import CertificateBoundAuth, CertificateFiles, CertificateTransport

NAMES = ("orders", "stock")
INTRUDER = "intruder"
ROTATION = 2.0  # seconds between two certificates of a service
ROUNDS, CALLS = 10, 25  # rounds of concurrent calls in each direction


def register_clients() -> list[dict[str, object]]:
    """The metadata of the workloads (RFC 8705 2.1.2): each authenticates with its SPIFFE ID."""
    return [
        {
            "client_id": name,
            "scope": "work",
            "token_endpoint_auth_method": "tls_client_auth",
            "tls_client_auth_san_uri": spiffe_id(name),
        }
        for name in (*NAMES, INTRUDER)
    ]


def visit(world: World, servers: contextlib.ExitStack, issuer: str) -> list[bool]:
    """Start both services, rotate their certificates and let them call each other."""
    directories = {name: world.directory / name for name in (*NAMES, INTRUDER)}
    for name, directory in directories.items():
        directory.mkdir()
        (directory / "svid_bundle.pem").write_text(world.authority.pem)
        write_certificate(world, name, directory)
    urls = dict(zip(NAMES, (f"https://localhost:{port}" for port in free_ports(2)), strict=True))
    for name, peer in (NAMES, NAMES[::-1]):
        command = [
            sys.executable,
            str(SAMPLES / "two_services.py"),
            name,
            peer,
            urls[peer],
            urls[name].rpartition(":")[2],
        ]
        environment = {**os.environ, "ISSUER": issuer}
        servers.enter_context(run_server(command, urls[name], environment, directory=directories[name]))
    console.print()
    console.rule("[bold]Two services that call each other[/]", align="left")
    console.print(f"  orders [cyan]{urls['orders']}[/]  stock [cyan]{urls['stock']}[/]")
    console.print(
        f"\n[dim]  ... {2 * ROUNDS * CALLS} calls, while each certificate is replaced every {ROTATION:.0f} s[/]"
    )
    with rotation(world, directories):
        results = call_each_other(world, urls)
    return results + [
        show(step, intrude(world, directories[INTRUDER], issuer, urls[NAMES[0]], step)) for step in steps()
    ]


def call_each_other(world: World, urls: dict[str, str]) -> list[bool]:
    """Send calls in both directions at once. Return whether all succeeded, with more than one certificate."""
    statuses: dict[str, Counter[str]] = {name: Counter() for name in NAMES}
    presented: dict[str, set[str]] = {name: set() for name in NAMES}

    def call(name: str) -> None:
        with httpx2.Client(verify=world.context(None), trust_env=False, timeout=60) as client:
            for _ in range(ROUNDS):
                body = client.get(f"{urls[name]}/call", params={"count": CALLS}).raise_for_status().json()
                statuses[name].update(body["statuses"])
                presented[name].update(body["thumbprints"])
                time.sleep(ROTATION / 4)

    with ThreadPoolExecutor(len(NAMES)) as pool:
        list(pool.map(call, NAMES))
    results = []
    for name in NAMES:
        expected = statuses[name] == {"200": ROUNDS * CALLS} and len(presented[name]) > 1
        mark, color = ("✔", "green") if expected else ("✘", "red")
        console.print(f"\n[{color}]{mark}[/] [bold]{name} calls its peer[/]")
        console.print(f"  ← {dict(statuses[name])}, with {len(presented[name])} certificates of {spiffe_id(name)}")
        results.append(expected)
    return results


def steps() -> list[Step]:
    return [
        Step(
            "a workload with its own token, but not the peer", 403, "client_certificate_refused", INTRUDER, path="/work"
        ),
    ]


def intrude(world: World, directory: Path, issuer: str, url: str, step: Step) -> Response:
    """Send a request of a workload of the same trust domain, with a token that is bound to its certificate."""
    bundle = str(directory / "svid_bundle.pem")
    files = CertificateFiles(directory / "svid.pem", directory / "svid_key.pem")
    auth = CertificateBoundAuth(
        issuer=issuer,
        client_id=INTRUDER,
        certificate=files,
        scopes=["work"],
        token_hosts=["127.0.0.1"],
        roots=bundle,
    )
    with httpx2.Client(transport=CertificateTransport(files, roots=bundle), auth=auth) as client:
        response = client.get(f"{url}{step.path}")
    return Response(response.status_code, response.headers.get("WWW-Authenticate", ""), response.text.strip())


@contextlib.contextmanager
def rotation(world: World, directories: dict[str, Path]) -> Iterator[None]:
    """Replace each service's certificate every few seconds, until the end of the block."""
    ended = threading.Event()

    def rotate() -> None:
        while not ended.wait(ROTATION):
            for name in NAMES:
                write_certificate(world, name, directories[name])

    thread = threading.Thread(target=rotate)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def write_certificate(world: World, name: str, directory: Path) -> None:
    """Write a new certificate and key, one after the other, as spiffe-helper does."""
    certificate = world.authority.issue(
        f"CN={name}", uris=[spiffe_id(name)], dns=["localhost"], extended_key_usage=("server", "client")
    )
    for file, content in (("svid.pem", certificate.chain_pem), ("svid_key.pem", certificate.key_pem)):
        (directory / file).write_text(content)


def spiffe_id(name: str) -> str:
    return f"spiffe://acme.internal/{name}"
