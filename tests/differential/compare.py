"""Compares a stack that lives long with a stack that has no caches, request by request."""

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

from mtls_middleware.cache import Cache
from mtls_middleware.errors import ConfigurationError
from tests.differential.environment import Outside
from tests.differential.material import Material
from tests.differential.requests import Drawn
from tests.differential.scenarios import scenarios
from tests.differential.sender import GATEWAYS, Outcome, Records, Sender, logged
from tests.differential.stacks import Builder


class Differs(AssertionError):  # noqa: N818 (a result, not an error)
    """Two stacks answered one request differently."""


class Tally:
    """How many requests were answered and accepted, and how many the decision cache accepted, by gateway."""

    def __init__(self) -> None:
        self.requests = self.accepted = 0
        self.cached = dict.fromkeys(GATEWAYS, 0)

    def add(self, gateway: str, outcome: Outcome) -> None:
        self.requests += 1
        self.accepted += bool(outcome["seen"])
        self.cached[gateway] += bool(outcome["seen"]) and any(outcome["cached"])

    def __str__(self) -> str:
        cached = sum(self.cached.values())
        share = cached / max(1, self.accepted)
        return f"{self.requests} requests, {self.accepted} accepted, {cached} of them by the cache ({share:.0%})"


@contextmanager
def forgetting(builder: Builder) -> Iterator[None]:
    """While it is entered, a cache has no older entries, except the introspection responses of this builder."""
    kept, new = {id(each._records) for each in builder.answers}, set()
    get, put = Cache.get, Cache.put

    def get_new(cache: Any, key: Any) -> Any:
        return get(cache, key) if id(cache) in kept or (id(cache), key) in new else None

    def put_new(cache: Any, key: Any, *given: Any, **named: Any) -> None:
        new.add((id(cache), key))
        put(cache, key, *given, **named)

    with mock.patch.object(Cache, "get", get_new), mock.patch.object(Cache, "put", put_new):
        yield


class Pair:
    """A stack that lives long and one without caches, of one gateway. Both depend on the same `outside`."""

    def __init__(self, gateway: str, scenario: Drawn, outside: Outside, records: Records) -> None:
        self.gateway = gateway
        self._lasting = Sender(gateway, Builder(scenario["stack"], outside).stack, records, without_loop=True)
        self._fresh_builder = Builder(scenario["stack"], outside)
        self._fresh = Sender(gateway, self._fresh_builder.stack, records, without_loop=True)
        self._is_made_anew = not depends_on_outside(scenario["stack"])

    def send(self, request: Drawn) -> Outcome:
        """The outcome of the lasting stack. Raises `Differs`."""
        lasting = self._lasting.send(request)
        if self._is_made_anew:
            self._fresh.renew()
        with forgetting(self._fresh_builder):
            fresh = self._fresh.send(request)
        if (found := differences(lasting, fresh)) is not None:
            raise Differs(f"{self.gateway}: {found}")
        if "UndeclaredFact" in str(lasting["records"]):
            raise Differs(f"{self.gateway}: a layer reads what it did not declare")
        return lasting


def depends_on_outside(stack: Drawn) -> bool:
    """Whether a part of the stack has state that is not a cache: files or documents that it has read."""
    stores = [each.get("trust_store") for each in stack["certificates"]]
    tokens = [each["tokens"] for each in stack["tokens"]]
    stateless = ("none", "static", "fapi2", "revocable", "user's tokens", "user's jwt")
    return any(each is not None and each.startswith("file") for each in stores) or any(
        each not in stateless for each in tokens
    )


def differences(one: Outcome, other: Outcome) -> str | None:
    """Each part that differs, with both values; `None` for equal outcomes. `cached` may differ."""
    found = [f"{name}: {_short(one[name])} / {_short(other[name])}" for name in one if name != "cached"
             if one[name] != other.get(name)]  # fmt: skip
    return "; ".join(found) or None


def _short(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) < 2000 else f"{text[:2000]}..."


def compare(seed: object, requests: int, material: Material, *, progress: Any = None) -> Tally:
    """Send so many requests, through both gateways in turn. Raises `Differs` at the first difference."""
    tally = Tally()
    drawn = enumerate(scenarios(seed, material))
    with logged() as records, tempfile.TemporaryDirectory() as folder:
        outside = Outside(material, Path(folder))
        with outside.around():
            while tally.requests < requests:
                number, scenario = next(drawn)
                outside.reset()
                play(scenario, outside, records, tally, f"seed {seed}, scenario {number}")
                if progress is not None:
                    progress(tally)
    return tally


def play(scenario: Drawn, outside: Outside, records: Records, tally: Tally, name: str) -> None:
    """Send the requests of one scenario. A stack that cannot be constructed is left out."""
    try:
        pairs = [Pair(gateway, scenario, outside, records) for gateway in GATEWAYS]
    except ConfigurationError:
        return
    for number, step in enumerate(scenario["steps"]):
        if "event" in step:
            outside.apply(step["event"])
            continue
        for pair in pairs:
            if step["request"]["kind"] == "websocket" and pair.gateway == "wsgi":
                continue
            try:
                tally.add(pair.gateway, pair.send(step["request"]))
            except Differs as difference:
                events = [each["event"] for each in scenario["steps"][:number] if "event" in each]
                raise Differs(
                    f"{name}, step {number}: {difference}\nstack: {json.dumps(scenario['stack'])}\n"
                    f"request: {json.dumps(step['request'])}\nevents: {events}"
                ) from None
