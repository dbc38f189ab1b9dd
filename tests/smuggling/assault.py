"""Attacks through the proxies of a stage on one server: which ones, at the same time, and what came of them."""

import contextlib
import random
import threading
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from zlib import crc32

import h2.exceptions

from tests.smuggling.attack import ATTACKER, Attack, Kind
from tests.smuggling.client import InnocentClient, connected, write_frames, write_segments
from tests.smuggling.findings import Finding, findings
from tests.smuggling.payload import Group, Payload
from tests.smuggling.payloads import payloads
from tests.smuggling.stage import Configuration, Stage

# Attacks at the same time through one proxy.
THREADS = 8
# After an attack on the next request: so many requests of the innocent client find the connection in the proxy's pool.
INNOCENT_REQUESTS = 3
# What the proxy forwards after an attacker has closed its connection still has to arrive.
SETTLING = 0.3


@dataclass
class Outcome:
    """The attempts of each configuration, and every violation."""

    attempts: Counter[Configuration] = field(default_factory=Counter)
    findings: list[Finding] = field(default_factory=list)
    recorded: int = 0


def chosen(groups: Iterable[Group], share: float = 1.0, seed: int = 0) -> list[tuple[Payload, Kind]]:
    """Each payload of these groups in each of its kinds; with `share` below 1, a sample that `seed` decides."""
    wanted = set(groups)
    every = [(each, kind) for each in payloads().values() if each.group in wanted for kind in each.kinds]
    if share == 1:
        return every
    return random.Random(seed).sample(every, round(len(every) * share))  # noqa: S311 (a sample of tests)


def run(stage: Stage, server: str, attacks: Sequence[tuple[Payload, Kind]], number: int = 0) -> Outcome:
    """Send every attack through every proxy of the stage, to the server that runs behind it, and judge the records."""
    outcome, lock = Outcome(), threading.Lock()
    with contextlib.ExitStack() as stack:
        pools = [
            (each, Fight(each, port, stack), stack.enter_context(ThreadPoolExecutor(THREADS)))
            for each, port in stage.ports.items()
        ]
        jobs = []
        for payload, kind in attacks:
            for configuration, fight, pool in pools:
                jobs.append((configuration, pool.submit(fight.attack, payload, kind, number)))
        for configuration, job in jobs:
            exchanged = job.result()
            with lock:
                outcome.attempts[configuration] += 1
                for payload_name, kind, detail in exchanged:
                    outcome.findings.append(
                        Finding("exchanged", configuration.proxy, server, configuration.secret, payload_name, kind, detail)
                    )
    time.sleep(SETTLING)
    records = stage.records()
    outcome.recorded = len(records)
    outcome.findings += findings(records, server, stage.keys)
    return outcome


class Fight:
    """Attacks through one proxy, each followed by the innocent client's requests."""

    def __init__(self, configuration: Configuration, port: int, stack: contextlib.ExitStack) -> None:
        self._configuration, self._port, self._stack = configuration, port, stack
        self._local = threading.local()

    def innocent(self) -> InnocentClient:
        """This thread's innocent client."""
        if not hasattr(self._local, "client"):
            self._local.client = InnocentClient(self._port, self._configuration.key)
            self._stack.callback(self._local.client.close)
        client: InnocentClient = self._local.client
        return client

    def attack(self, payload: Payload, kind: Kind, number: int) -> list[tuple[str, str, str]]:
        """Send one attack. Returns (payload, kind, what) for each answer that went to the wrong client."""
        # Half of the attackers have a certificate: a proxy may treat a client without one differently.
        anonymous = (crc32(f"{payload.name}{kind}".encode()) + number) % 2
        sender = "none" if anonymous else ATTACKER
        attack = Attack(
            self._configuration.proxy, self._configuration.key, payload.name, kind, number, certificate=sender
        )
        wrong = []
        octets = b""
        with contextlib.suppress(OSError, h2.exceptions.ProtocolError):
            protocol = "http/1.1" if payload.segments else "h2"
            with connected(self._port, sender, protocol) as connection:
                if payload.segments:
                    octets = write_segments(connection, payload.segments(attack))
                elif payload.frames:
                    octets = write_frames(connection, payload.frames(attack))
                if kind != "forge-h2":
                    wrong.append(self.innocent().request())
        if kind in ("poison", "capture"):
            wrong += [self.innocent().request() for _ in range(INNOCENT_REQUESTS)]
        if b"/innocent/" in octets:
            wrong.append("the attacker reads an answer to the innocent client")
        return [(payload.name, kind, each) for each in wrong if each]
