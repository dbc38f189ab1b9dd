"""`python -m tests.differential --before FOLDER`: the answers of two commits to the same requests, and what differs.

Each commit runs in a process of its own, which writes one JSON line for each request.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mtls_middleware.errors import ConfigurationError
from tests.differential.environment import Outside
from tests.differential.material import new_material
from tests.differential.requests import Drawn
from tests.differential.scenarios import scenarios
from tests.differential.sender import GATEWAYS, Records, Sender, logged
from tests.differential.stacks import Builder

TESTS = Path(__file__).resolve().parents[2]
# Imports the library from one folder, and the tests from this worktree.
_BOOT = (
    "import sys; sys.path = [{code!r}] + [each for each in sys.path if each]; import mtls_middleware; "
    "sys.path[0] = {tests!r}; from tests.differential.commits import write_answers; write_answers(*sys.argv[1:])"
)
# Log records describe the same reason in other words.
_DESCRIPTIONS = "evidence"


def compare_commits(before: Path, seed: object, requests: int) -> int:
    """Print each kind of difference with its first example. Returns the exit status."""
    kinds: Counter[str] = Counter()
    count = 0
    with tempfile.TemporaryDirectory() as folder:
        material = Path(folder, "material.json")
        material.write_text(json.dumps(new_material()))
        processes = [_started(each.resolve(), material, seed, requests) for each in (before, TESTS)]
        outputs = [each.stdout for each in processes]
        assert all(outputs)
        for old, new in zip(*outputs, strict=True):
            count += 1
            if old != new:
                _tell(json.loads(old), json.loads(new), kinds)
            if count % 10_000 == 0:
                print(f"{count} answers compared", flush=True)
        statuses = [each.wait() for each in processes]
    print(f"{count} answers compared; exit status of the two processes: {statuses}")
    for kind, number in kinds.most_common():
        print(f"{number:8} {kind}")
    return int(any(statuses) or any(not kind.startswith("expected") for kind in kinds))


def _started(code: Path, material: Path, seed: object, requests: int) -> "subprocess.Popen[bytes]":
    boot = _BOOT.format(code=str(code), tests=str(TESTS))
    arguments = [sys.executable, "-W", "ignore", "-c", boot, str(material), str(seed), str(requests)]
    # Sets have the same order in both processes: FastAPI lists methods in the order of a set.
    environment = {**os.environ, "PYTHONHASHSEED": "0"}
    return subprocess.Popen(arguments, cwd=code, env=environment, stdout=subprocess.PIPE)


def _tell(old: Drawn, new: Drawn, kinds: "Counter[str]") -> None:
    for path, before, after in _differences(old, new, ""):
        kind = ("expected: " if path.endswith(_DESCRIPTIONS) else "") + path
        if path.endswith((".status", ".code", ".raised")):
            kind += f": {before} became {after}"
        kinds[kind] += 1
        if kinds[kind] == 1 and not kind.startswith("expected"):
            print(f"{path}: {json.dumps(_brief(before))} became {json.dumps(_brief(after))}")
            print(f"    {new['name']}: {json.dumps(_brief(new.get('request')))}")
            print(f"    {new.get('sender')}: {json.dumps(new['stack'])}", flush=True)


def _brief(value: Any) -> Any:
    """The same with the beginnings of long strings alone."""
    if isinstance(value, dict):
        return {name: _brief(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_brief(each) for each in value]
    return f"{value[:60]}..." if isinstance(value, str) and len(value) > 64 else value


def _differences(old: Any, new: Any, path: str) -> Iterator[tuple[str, Any, Any]]:
    """Each leaf that differs: its path, and both values."""
    if isinstance(old, dict) and isinstance(new, dict):
        for name in {**old, **new}:
            yield from _differences(old.get(name), new.get(name), f"{path}.{name}")
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for one, other in zip(old, new, strict=True):
            yield from _differences(one, other, path)
    elif old != new:
        yield path, old, new


def write_answers(material: str, seed: str, requests: str) -> None:
    """In a process of one commit: write the answers to standard output."""
    given = json.loads(Path(material).read_text())
    count = 0
    with logged() as records, tempfile.TemporaryDirectory() as folder:
        outside = Outside(given, Path(folder))
        with outside.around():
            for number, scenario in enumerate(scenarios(seed, given)):
                if count >= int(requests):
                    return
                outside.reset()
                for answer in _answers(scenario, outside, records, number):
                    count += 1
                    sys.stdout.write(json.dumps({"name": f"scenario {number}, answer {count}", **answer}) + "\n")


def _answers(scenario: Drawn, outside: Outside, records: Records, number: int) -> Iterator[Drawn]:
    stack = scenario["stack"]
    try:
        senders = [each for gateway in GATEWAYS for each in _senders(gateway, stack, outside, records, number)]
    except ConfigurationError as error:
        yield {"stack": stack, "request": None, "error": type(error).__name__}
        return
    for step in scenario["steps"]:
        if "event" in step:
            outside.apply(step["event"])
            continue
        for sender in senders:
            if step["request"]["kind"] == "websocket" and sender.gateway == "wsgi":
                continue
            yield {"stack": stack, "request": step["request"], "sender": sender.name, "outcome": _sent(sender, step)}


def _sent(sender: Sender, step: Drawn) -> Drawn:
    try:
        outcome = sender.send(step["request"])
    except Exception as error:  # noqa: BLE001 (Django raises for a websocket; what is raised is compared)
        return {"raised": type(error).__name__}
    del outcome["cached"]
    return outcome


def _senders(gateway: str, stack: Drawn, outside: Outside, records: Records, number: int) -> list[Sender]:
    """The stack around the usual application, and in some scenarios around one of a framework."""
    found = [Sender(gateway, Builder(stack, outside).stack, records)]
    if number % 3 == 0:
        from tests.differential.frameworks import APPLICATIONS

        makers = APPLICATIONS[gateway]
        make = makers[number // 3 % len(makers)]
        found.append(Sender(gateway, Builder(stack, outside).stack, records, make))
    return found
