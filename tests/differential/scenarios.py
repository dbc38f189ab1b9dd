"""Draws stacks and events from a seed. Pure data: `stacks.py` and `sender.py` give it a meaning."""

import random
from collections.abc import Callable, Iterator
from typing import Any

from tests.differential.header_forms import SOURCES
from tests.differential.material import (
    CRL_BEGAN,
    CRL_BEGINS,
    CRL_ENDS,
    ENDED,
    LATER,
    PATH_ENDS,
    PROXY_ENDS,
    SHORT,
    TOKEN_BEGINS,
    TOKEN_ENDS,
    Material,
)
from tests.differential.requests import Drawn, Options, RequestDrawer

# Requests to one stack: enough to fill its cache, and to use it.
LENGTH = 25

USERS_SOURCES = [name for name in SOURCES if name.startswith("user's")]
CACHED_SOURCES = [name for name in SOURCES if name not in USERS_SOURCES]
NEVER_VERIFY = ("azure", "aws passthrough", "rfc9440 presented")
SHAPES = [
    "protect", "protect", "protect", "fused", "fused", "nested", "nested", "two", "two nested", "dispatched", "client",
    "client nested", "tokens nested", "certificate", "certificate",
]  # fmt: skip
STORES = [
    "memory",
    "file",
    "file",
    "file with lists",
    "file with lists",
    "file with soft lists",
    "file with soft lists",
    "user's store",
]
RULES = [
    "client", "client", "client", "not client", "presented client", "thumbprint", "dns", "spiffe", "issuer", "flipping",
    "client and flip", "thumbprint or flip", "flipping subject", "not revoked", "client and not revoked",
]  # fmt: skip
TOKENS = [
    "static", "fetched", "discovered", "fapi2", "introspected", "introspected each time", "issuers", "revocable",
    "revocable introspected", "user's tokens", "user's jwt",
]  # fmt: skip


# By the time at which it begins or ends: the states in which a revocation list does so.
_LISTS = {CRL_BEGAN: ["ending"], CRL_ENDS: ["ending"], CRL_BEGINS: ["later", "later alone"]}


_TWO_CERTIFICATE_LAYERS = ("two", "two nested", "dispatched")
_WITHOUT_TOKEN_LAYER = ("certificate", "two nested", "client")
_UNUSED_TOKENS: Options = {"tokens": "none", "resource_metadata": None}


class Drawer:
    """Draws from one seed, over one material."""

    def __init__(self, seed: object, material: Material) -> None:
        self._dice, self._material = random.Random(f"{seed}"), material
        self._decks: dict[str, list[Any]] = {}

    def _deal(self, name: str, options: list[Any]) -> Any:
        """Each of the options in turn, shuffled: a short run has all of them, too."""
        deck = self._decks.setdefault(name, [])
        if not deck:
            deck += self._dice.sample(options, len(options))
        return deck.pop()

    def _is(self, probability: float) -> bool:
        return self._dice.random() < probability

    def scenario(self) -> Drawn:
        """Options of a stack, and the steps: events and requests."""
        stack = self._stack()
        people = self._dice.sample(range(len(self._material["people"])), 3)
        if self._is(0.9):
            people[0] = self._dice.choice(_accepted_people(stack["certificates"][0]))
        return {"stack": stack, "steps": list(self._steps(stack, people))}

    # Stacks

    def _stack(self) -> Options:
        dice = self._dice
        shape = "wrong order" if self._is(0.01) else self._deal("shape", SHAPES)
        root = dice.choice([None, None, None, "/api", ""])
        certificates = [self._certificate(root)]
        certificates.append(self._certificate(root) if shape in _TWO_CERTIFICATE_LAYERS else certificates[0])
        if "two" in shape and self._is(0.3):
            certificates[1]["source"] = certificates[0]["source"]
        elif "two" in shape and self._is(0.3):
            certificates[1]["source"] = dice.choice(USERS_SOURCES)
        tokens = [_UNUSED_TOKENS if shape in _WITHOUT_TOKEN_LAYER else self._token(root)]
        tokens.append(self._token(root) if shape == "tokens nested" else _UNUSED_TOKENS)
        return {"shape": shape, "certificates": certificates, "tokens": tokens}

    def _certificate(self, root: str | None) -> Options:
        dice = self._dice
        source = self._deal("source", CACHED_SOURCES + USERS_SOURCES)
        options: Options = {"source": source, "root_path": root}
        if self._is(0.4) or source in NEVER_VERIFY:
            options["trust_store"] = self._deal("store", STORES)
        if self._is(0.55):
            options["allow"] = self._allow()
        if not isinstance(options.get("allow"), dict):
            options["required"] = dice.choice([None, True, False])
        options["exempt"] = dice.choice([[], [], ["/health"], ["/health", "/static/*"]])
        options["exempts_metadata"] = self._is(0.6)
        options["exempt_preflight"] = self._is(0.2)
        options["clock_skew"] = dice.choice([60, 60, 0, 300])
        options["validity"] = dice.choice(["each_request"] * 4 + ["handshake"])
        return options

    def _allow(self) -> Any:
        if self._is(0.6):
            return self._deal("rule", RULES)
        paths = ["/", *self._dice.sample(["/admin", "/public", "/admin/users"], 2)]
        return {path: self._dice.choice(RULES + ["anyone"] * 4) for path in paths}

    def _token(self, root: str | None) -> Options:
        dice = self._dice
        return {
            "tokens": self._deal("tokens", TOKENS),
            "scopes": dice.choice([[], [], ["read"], ["read", "write"]]),
            "binding": dice.choice(["required", "required", "when_present"]),
            "exempt": dice.choice([[], [], ["/health"], ["/static/*"]]),
            "exempt_preflight": self._is(0.2),
            "root_path": root,
            "realm": dice.choice([None, "billing"]),
            "resource_metadata": self._deal("metadata", [None, None, "address", "document", "document"]),
        }

    # Steps

    def _steps(self, stack: Options, people: list[int]) -> Iterator[Drawn]:
        requests = RequestDrawer(self._dice, self._material, stack, people)
        likely = _likely_events(stack)
        ends = _likely_ends(stack, people)
        yield from ({"request": each} for each in requests.sweep())
        for _ in range(LENGTH):
            if self._is(0.15):
                yield from self._around_moment(requests, self._dice.choice(ends))
            if self._is(0.2):
                event = self._event(self._dice.choice(likely), people)
                yield {"event": event}
                if event[0] in ("roots", "list", "keys", "answers") and self._is(0.8):
                    # Time after which a new state is known at the latest.
                    yield {"event": ["add", {"keys": 601.0, "answers": 31.0}.get(event[0], 2.5)]}
                yield {"request": requests.regular()}
                if self._is(0.3):
                    yield {"event": self._event("home", people)}
                    yield {"event": ["network", True]}
            yield {"request": requests.request()}

    def _around_moment(self, requests: RequestDrawer, end: float) -> Iterator[Drawn]:
        """The same request before and after something begins or ends, and then at home."""
        request = requests.regular()
        if end in _LISTS:
            yield {"event": ["list", self._dice.choice(_LISTS[end])]}
            yield {"event": ["add", 2.5]}
        yield {"request": request}
        if self._is(0.3):
            yield {"event": ["answers", "revoked"]}
        yield {"event": ["set", self._material["now"] + end - self._dice.choice([0.5, 1.5])]}
        yield {"request": request}
        yield {"event": ["add", self._dice.choice([1.0, 2.0])]}
        yield {"request": request}
        yield {"event": ["set", self._material["now"]]}
        yield {"request": request}
        yield {"event": ["answers", "usual"]}

    def _event(self, name: str, people: list[int]) -> list[Any]:
        pick, material = self._dice.choice, self._material
        events: dict[str, Callable[[], list[Any]]] = {
            "tick": lambda: ["add", pick([0.25, 1.0, 2.5])],
            "jump": lambda: ["add", pick([-86_400.0, -3600.0, -61.0, 61.0, 3600.0, 86_400.0])],
            "home": lambda: ["set", material["now"] + pick([0.0, 3.0])],
            "flip": lambda: ["flip"],
            "revoke": lambda: ["revoke", pick(["person", "token", "list"]), pick(people)],
            "roots": lambda: ["roots", pick([*material["roots"], "ca", "ca"])],
            "list": lambda: ["list", pick([*material["lists"], "empty"])],
            "keys": lambda: ["keys", pick([*material["keys"], "both", "both"])],
            "network": lambda: ["network", self._is(0.7)],
            "answers": lambda: ["answers", pick(["usual", "revoked"])],
        }
        return events[name]()


def _likely_events(stack: Options) -> list[str]:
    """Names of events; those that this stack depends on several times."""
    found = ["tick"] * 3 + ["jump", "home", "home"]
    used = str(stack)
    for word, events in {
        "flip": ["flip"] * 6,
        "user's": ["flip"] * 2,
        "revo": ["revoke"] * 4,
        "file": ["roots"] * 3,
        "lists": ["list"] * 4,
        "fetched": ["keys"] * 2 + ["network"],
        "discovered": ["keys"] * 2 + ["network"],
        "issuers": ["keys", "answers", "network"],
        "introspected": ["answers"] * 3 + ["network"],
    }.items():
        if word in used:
            found += events
    return found


def _likely_ends(stack: Options, people: list[int]) -> list[float]:
    """Seconds from the beginning at which something that this stack depends on begins or ends."""
    skew = stack["certificates"][0]["clock_skew"]
    used = str(stack)
    found = [30.0, 300.0]
    for person, end in {2: SHORT, 3: ENDED, 8: PATH_ENDS}.items():
        found += [end + skew, end + skew, end] if person in people else []
    found += [LATER - skew] * 2 if 4 in people else []
    found += [PROXY_ENDS + skew] * 3 if "proxy certificate" in used else []
    found += [*_LISTS] * 3 if "lists" in used else []
    if stack["shape"] not in _WITHOUT_TOKEN_LAYER:
        found += [TOKEN_ENDS + 10, TOKEN_BEGINS - 10, -15]
        found += [480, 600] if any(word in used for word in ("fetched", "discovered", "issuers")) else []
    return found


def _accepted_people(options: Options) -> list[int]:
    """People whom the first layer probably accepts."""
    rule = options.get("allow", "")
    if rule in ("thumbprint", "dns", "spiffe"):
        return [0]
    return [1] if rule == "not client" else [0, 0, 0, 1, 2, 2, 6, 8, 8]


def scenarios(seed: object, material: Material) -> Iterator[Drawn]:
    """Scenarios without end."""
    drawer = Drawer(seed, material)
    while True:
        yield drawer.scenario()
