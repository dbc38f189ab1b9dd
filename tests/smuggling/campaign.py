"""A campaign: which attacks go through every proxy of a stage to one server, and what they achieve."""

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
from tests.smuggling.findings import Finding, findings, sender_of
from tests.smuggling.payload import Group, Payload
from tests.smuggling.payloads import payloads
from tests.smuggling.stage import Configuration, Control, Stage

# Attacks at the same time through one proxy.
THREADS = 8
# After an attack on the next request: so many requests of the innocent client find the connection in the proxy's pool.
INNOCENT_REQUESTS = 3
# What the proxy forwards after an attacker has closed its connection still has to arrive.
SETTLING = 0.3


@dataclass
class CampaignResult:
    """What was sent through each configuration, what the application recorded, and every violation."""

    attempts: Counter[Configuration] = field(default_factory=Counter)
    findings: list[Finding] = field(default_factory=list)
    # Requests that the application recorded, by the first path segment and the sender.
    recorded: Counter[tuple[str, str]] = field(default_factory=Counter)

    def add(self, other: "CampaignResult") -> None:
        self.attempts.update(other.attempts)
        self.findings += other.findings
        self.recorded.update(other.recorded)


Choice = tuple[Payload, Kind]


def chosen(groups: Iterable[Group], share: float = 1.0, seed: str = "") -> list[Choice]:
    """Each payload of these groups in each of its kinds; with `share` below 1 the core, and a sample of the rest."""
    wanted = set(groups)
    every = [(each, kind) for each in payloads().values() if each.group in wanted for kind in each.kinds]
    if share == 1:
        return every
    rest = [each for each in every if not each[0].core]
    return [each for each in every if each[0].core] + sample(rest, round(len(rest) * share), seed)


def core() -> list[Choice]:
    """What every CI run sends: upgrades, CONNECT and early answers, in all kinds."""
    return [(each, kind) for each in payloads().values() if each.core for kind in each.kinds]


def sample(choices: Sequence[Choice], size: int, seed: str) -> list[Choice]:
    return random.Random(seed).sample(choices, size)


def run(
    stage: Stage, server: str, attacks: Sequence[Choice], control: dict[Configuration, Control], number: int = 0
) -> CampaignResult:
    """Send every attack through every proxy of the stage, to the server that runs behind it, and judge the records."""
    outcome = CampaignResult()
    with contextlib.ExitStack() as stack:
        attackers = [Attacker(each, port, stack) for each, port in stage.ports.items()]
        pools = [stack.enter_context(ThreadPoolExecutor(THREADS)) for _ in attackers]
        jobs = [
            (attacker, pool.submit(attacker.attack, payload, kind, number))
            for payload, kind in attacks for attacker, pool in zip(attackers, pools, strict=True)
        ]  # fmt: skip
        for attacker, job in jobs:
            outcome.attempts[attacker.configuration] += 1
            outcome.findings += [each.finding(attacker.configuration, server) for each in job.result()]
    time.sleep(SETTLING)
    records = stage.records()
    outcome.recorded = Counter(sender for each in records if (sender := sender_of(each["path"])))
    untrusted = frozenset(each.key for each, answer in control.items() if answer != "trusted")
    outcome.findings += findings(records, server, stage.keys, untrusted)
    return outcome


@dataclass(frozen=True)
class Exchange:
    """An answer that went to the wrong client during this attack."""

    payload: str
    kind: Kind
    detail: str

    def finding(self, configuration: Configuration, server: str) -> Finding:
        where = (configuration.proxy, server, configuration.secret)
        return Finding("exchanged", *where, self.payload, self.kind, self.detail)


class Attacker:
    """Attacks through one proxy, each followed by the innocent client's requests."""

    def __init__(self, configuration: Configuration, port: int, stack: contextlib.ExitStack) -> None:
        self.configuration, self._port, self._stack = configuration, port, stack
        self._local = threading.local()

    def innocent(self) -> InnocentClient:
        """This thread's innocent client."""
        if not hasattr(self._local, "client"):
            self._local.client = InnocentClient(self._port, self.configuration.key)
            self._stack.callback(self._local.client.close)
        client: InnocentClient = self._local.client
        return client

    def attack(self, payload: Payload, kind: Kind, number: int) -> list[Exchange]:
        """Send one attack. Returns the answers that went to the wrong client."""
        # Half of the attackers have a certificate: a proxy may treat a client without one differently.
        anonymous = (crc32(f"{payload.name}{kind}".encode()) + number) % 2
        sender = "none" if anonymous else ATTACKER
        attack = Attack(self.configuration.proxy, self.configuration.key, payload.name, kind, number)
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
        return [Exchange(payload.name, kind, each) for each in wrong if each]
