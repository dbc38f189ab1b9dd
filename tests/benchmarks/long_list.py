"""Measure 13: an event loop while a long revocation list replaces a short one, and the memory that this takes.

Each row has a process of its own: `python -m tests.benchmarks.long_list SOURCE ENTRIES`. Its event loop runs a task
every millisecond, and checks one certificate every ten. It uses nothing but the public names of the library.
"""

import asyncio
import base64
import gc
import json
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from mtls_middleware.certificate import Verification
from mtls_middleware.effects import AwaitingDriver
from mtls_middleware.errors import Refused
from mtls_middleware.testing import CertificateAuthority
from mtls_middleware.validation import RevocationLists, TrustStore
from tests.benchmarks.table import Row
from tests.key_server import KeyServer

GOAL_SECONDS, GOAL_MEMORY = 0.050, 3
SERIAL = 16  # bytes of a serial number, of which the first is never zero
KEPT = SERIAL + 1 + 8  # bytes of a serial number, a reason and a date
ENTRY = 49  # bytes of an entry with all three, in DER
THREADS = ("mtls-middleware files", "mtls-middleware document")  # the threads that read lists
SOURCES = ("DER", "PEM", "URL")
SIZES = (5_000_000, 50_000_000)


def rows(quick: bool) -> list[Row]:
    sizes = (400_000,) if quick else SIZES
    return [row for size in sizes for source in SOURCES for row in _rows(source, size)]


def _rows(source: str, size: int) -> list[Row]:
    command = [sys.executable, "-m", "tests.benchmarks.long_list", source, str(size // ENTRY)]
    output = subprocess.run(command, stdout=subprocess.PIPE, check=True, cwd=Path(__file__).parents[2]).stdout
    found = json.loads(output)
    what = f"a list of {size / 1e6:g} MB, {source}"
    kept = size // ENTRY * KEPT / 1e6
    return [
        Row(
            13,
            f"{what}: longest stop of the event loop",
            f"{found['stop'] * 1000:.0f} ms",
            f"{found['stop_before'] * 1000:.0f} ms without a new list",
            found["stop"] / GOAL_SECONDS,
            1,
            note=f"a part of {GOAL_SECONDS * 1000:.0f} ms; in force after {found['seconds']:.1f} s",
        ),
        Row(
            13,
            f"{what}: memory",
            f"{found['most']:.0f} MB while it is read",
            f"{found['held']:.0f} MB afterwards",
            found["most"] / kept,
            GOAL_MEMORY,
            note=f"a part of {kept:.0f} MB: a serial number, a reason and a date for each entry",
        ),
    ]


def measure(source: str, entries: int) -> dict[str, float]:
    authority = CertificateAuthority()
    client = authority.issue("CN=client")
    now = int(time.time())
    long = list_of(authority, client.x509.serial_number, entries, now)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        file, ready = folder / "ca.crl", folder / "ready"
        file.write_bytes(list_of(authority, 1, 1, now - 60))
        ready.write_bytes(long if source != "PEM" else pem(long))
        if source == "URL":
            server = stack.enter_context(KeyServer(file.read_bytes()))
            lists = RevocationLists(urls=[server.url], allow_http=True)
            publish: Callable[[], object] = partial(_serve, server, ready)
        else:
            lists = RevocationLists([file])
            publish = partial(ready.rename, file)
        del long
        store = TrustStore([authority.certificate], revocation=lists)
        return asyncio.run(_watch(store, client.client_certificate(Verification.PRESENTED), publish))


def _serve(server: KeyServer, file: Path) -> None:
    server.jwks = file.read_bytes()


async def _watch(store: TrustStore, certificate: Any, publish: Any) -> dict[str, float]:
    driver, later = AwaitingDriver(), 0.0
    stops: list[float] = []
    is_over = False

    async def tick() -> None:
        last = time.perf_counter()
        while not is_over:
            await asyncio.sleep(0.001)
            stops.append(time.perf_counter() - last)
            last = time.perf_counter()

    async def is_revoked() -> bool:
        try:
            await driver.run(store.validate(certificate, time.time() + later))
        except Refused:
            return True
        return False

    assert not await is_revoked()
    ticking = asyncio.create_task(tick())
    gc.collect()
    gc.freeze()
    await asyncio.sleep(2)
    before = max(stops)
    publish()
    await asyncio.sleep(0.01)
    stops.clear()
    start_memory()
    memory, begun = resident("VmRSS"), time.perf_counter()
    later = 500.0  # a list at a URL is fetched again, and a file is checked again
    while not await is_revoked():  # noqa: ASYNC110 (no event says that a list is in force)
        await asyncio.sleep(0.01)
    seconds = time.perf_counter() - begun
    while any(each.name in THREADS for each in threading.enumerate()):  # noqa: ASYNC110 (as above)
        await asyncio.sleep(0.01)
    is_over = True
    await ticking
    gc.collect()
    held, most = resident("VmRSS") - memory, resident("VmHWM") - memory
    return {"stop": max(stops), "stop_before": before, "seconds": seconds, "held": held, "most": most}


def start_memory() -> None:
    """Begin a new maximum of the resident memory of this process (proc(5): clear_refs)."""
    Path("/proc/self/clear_refs").write_text("5", "ascii")


def resident(name: str) -> float:
    """Megabytes of resident memory: `VmRSS` now, or `VmHWM` at most."""
    lines = Path("/proc/self/status").read_text("ascii").splitlines()
    return next(int(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith(name))


def list_of(authority: CertificateAuthority, serial: int, entries: int, now: int) -> bytes:
    """DER of a list with so many random serial numbers, `serial` the last of them, each with a reason and a date."""
    chosen = random.Random(1)
    moment = _value(0x17, time.strftime("%y%m%d%H%M%SZ", time.gmtime(now - 3600)).encode())
    reason = bytes.fromhex("300c300a0603551d1504030a0101")
    begin = b"\x30" + bytes([SERIAL + 2 + len(moment) + len(reason)]) + b"\x02" + bytes([SERIAL]) + b"\x01"
    others = b"".join(begin + chosen.randbytes(SERIAL - 1) + moment + reason for _ in range(entries - 1))
    last = _value(0x30, _integer(serial) + moment + reason)
    algorithm = bytes.fromhex("300a06082a8648ce3d040302")  # ecdsa-with-SHA256
    end = _value(0x17, time.strftime("%y%m%d%H%M%SZ", time.gmtime(now + 86_400)).encode())
    number = _value(0x30, bytes.fromhex("0603551d14") + _value(4, _integer(now)))
    fields = [_integer(1), algorithm, authority.certificate.subject.public_bytes(), moment, end]
    tbs = _value(0x30, b"".join([*fields, _value(0x30, others + last), _value(0xA0, _value(0x30, number))]))
    signature = authority.key.sign(tbs, ec.ECDSA(hashes.SHA256()))
    return _value(0x30, tbs + algorithm + _value(3, b"\0" + signature))


def _integer(number: int) -> bytes:
    return _value(2, number.to_bytes(number.bit_length() // 8 + 1, "big"))


def _value(tag: int, content: bytes) -> bytes:
    size = len(content)
    octets = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes([tag]) + (bytes([size]) if size < 128 else bytes([128 | len(octets)]) + octets) + content


def pem(der: bytes) -> bytes:
    return b"-----BEGIN X509 CRL-----\n" + base64.encodebytes(der) + b"-----END X509 CRL-----\n"


if __name__ == "__main__":
    print(json.dumps(measure(sys.argv[1], int(sys.argv[2]))))
