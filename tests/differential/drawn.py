"""Draws stacks, requests and events from a seed. Pure data: `stacks.py` and `sent.py` give it a meaning."""

import copy
import random
from collections.abc import Callable, Iterator
from typing import Any

from tests.differential.material import ISSUER, OTHER_ISSUER, Material, moments
from tests.differential.written import FORMS, OLD_SECRET, SECRET, SECRET_NAME, WORDS

# Requests to one stack: enough to fill its cache, and to use it.
LENGTH = 60

Options = dict[str, Any]
Drawn = dict[str, Any]

# By name: the form that the source reads, and whether it needs a secret.
SOURCES = {
    "nginx": ("nginx", False), "nginx secret": ("nginx", True), "nginx secrets alone": ("nginx", True),
    "nginx unix": ("nginx", False), "plain": ("plain", True), "own": ("own", False), "haproxy": ("haproxy", False),
    "rfc9440": ("rfc9440", False), "rfc9440 secret": ("rfc9440", True), "rfc9440 presented": ("rfc9440", False),
    "envoy": ("xfcc", False), "envoy secret": ("xfcc", True), "envoy hops": ("hops", False),
    "cloudflare": ("cloudflare", False), "cloudflare secret": ("cloudflare", True), "google": ("google", False),
    "azure": ("azure", False), "aws": ("aws", False), "aws passthrough": ("aws passthrough", False),
    "traefik": ("traefik", False), "caddy": ("caddy", True), "tls": ("tls", False), "tls again": ("tls", False),
    "proxy certificate": ("nginx", False), "proxy certificate secret": ("nginx", True),
    "user's source": ("nginx", False), "user's nginx": ("nginx", False), "user's tls": ("tls", False),
}  # fmt: skip
CACHED_SOURCES = [name for name in SOURCES if not name.startswith("user's")]
NEVER_VERIFY = ("azure", "aws passthrough", "rfc9440 presented")

STORES = ["memory", "file", "file with lists", "file with soft lists", "user's store"]
RULES = [
    "client", "not client", "presented client", "thumbprint", "dns", "spiffe", "issuer", "flipping", "client and flip",
    "thumbprint or flip", "flipping subject", "not revoked", "client and not revoked",
]  # fmt: skip
TOKENS = [
    "static", "fetched", "discovered", "fapi2", "introspected", "introspected each time", "issuers", "revocable",
    "revocable introspected", "user's tokens", "user's jwt",
]  # fmt: skip
PATHS = ["/", "/admin", "/admin/users", "/public", "/health", "/static/a", "/static", "/admin;x", "//admin", "/adminx"]
METADATA_PATH = "/.well-known/oauth-protected-resource"
PREFLIGHT = [["Origin", "https://app.test"], ["Access-Control-Request-Method", "GET"]]


class Drawer:
    """Draws from one seed, over one material."""

    def __init__(self, seed: object, material: Material) -> None:
        self._dice, self._material = random.Random(f"{seed}"), material
        self._people: list[int] = []

    def _is(self, probability: float) -> bool:
        return self._dice.random() < probability

    def scenario(self, length: int) -> Drawn:
        """Options of a stack, and the steps: events and requests."""
        stack = self._stack()
        self._people = self._dice.sample(range(len(self._material["people"])), 3)
        if self._is(0.8):
            self._people[0] = self._dice.choice([0, 1, 2, 6, 8])
        return {"stack": stack, "steps": list(self._steps(stack, length))}

    # Stacks

    def _stack(self) -> Options:
        shape = self._dice.choice(
            ["protect", "protect", "fused", "nested", "two", "two nested", "dispatched", "client", "client nested"]
            + ["tokens nested", "certificate", "certificate"] + (["wrong order"] if self._is(0.15) else [])
        )  # fmt: skip
        root = self._dice.choice([None, None, None, "/api", ""])
        certificates = [self._certificate(root), self._certificate(root)]
        tokens = [self._token(root), self._token(root)]
        if "two" in shape and self._is(0.3):
            certificates[1]["source"] = certificates[0]["source"]
        for each in certificates:
            if certificates[0]["source"].startswith("tls") and self._is(0.5):
                each["root_path"] = root
        return {"shape": shape, "certificates": certificates, "tokens": tokens}

    def _certificate(self, root: str | None) -> Options:
        dice = self._dice
        source = dice.choice(CACHED_SOURCES) if self._is(0.92) else dice.choice(list(SOURCES))
        options: Options = {"source": source, "root_path": root}
        if self._is(0.35) or source in NEVER_VERIFY:
            options["trust_store"] = dice.choice(STORES)
        if self._is(0.55):
            options["allow"] = self._allow()
        if not isinstance(options.get("allow"), dict):
            options["required"] = dice.choice([None, True, False])
        options["exempt"] = dice.choice([[], [], ["/health"], ["/health", "/static/*"]])
        options["exempt_preflight"] = self._is(0.2)
        options["clock_skew"] = dice.choice([60, 60, 0, 300])
        options["validity"] = dice.choice(["each_request"] * 4 + ["handshake"])
        return options

    def _allow(self) -> Any:
        if self._is(0.6):
            return self._dice.choice(RULES)
        paths = ["/", *self._dice.sample(["/admin", "/public", "/admin/users"], 2)]
        return {path: self._dice.choice(RULES + ["anyone"] * 3) for path in paths}

    def _token(self, root: str | None) -> Options:
        dice = self._dice
        return {
            "tokens": dice.choice(TOKENS),
            "scopes": dice.choice([[], [], ["read"], ["read", "write"]]),
            "binding": dice.choice(["required", "required", "when_present"]),
            "exempt": dice.choice([[], [], ["/health"], ["/static/*"]]),
            "exempt_preflight": self._is(0.2),
            "root_path": root,
            "realm": dice.choice([None, "billing"]),
            "resource_metadata": dice.choice([None, None, None, "address", "document"]),
        }

    # Steps

    def _steps(self, stack: Options, length: int) -> Iterator[Drawn]:
        for _ in range(length):
            if self._is(0.2):
                yield {"event": self._event()}
            request = self._request(stack)
            yield {"request": request}

    def _event(self) -> list[Any]:
        pick, material = self._dice.choice, self._material
        events: dict[str, Callable[[], list[Any]]] = {
            "tick": lambda: ["add", pick([0.25, 1.0, 2.5])],
            "moment": lambda: ["set", pick(moments(material)) + pick([-1.5, -0.5, 0.0, 0.5, 1.5])],
            "jump": lambda: ["add", pick([-86_400.0, -3600.0, -61.0, 61.0, 3600.0, 86_400.0])],
            "home": lambda: ["set", material["now"] + pick([0.0, 3.0])],
            "flip": lambda: ["flip"],
            "revoke": lambda: ["revoke", pick(["person", "token", "list"]), pick(self._people)],
            "roots": lambda: ["roots", pick([*material["roots"], "ca", "ca"])],
            "list": lambda: ["list", pick([*material["lists"], "empty"])],
            "keys": lambda: ["keys", pick([*material["keys"], "both", "both"])],
            "network": lambda: ["network", self._is(0.7)],
            "answers": lambda: ["answers", pick(["usual", "revoked"])],
        }
        often = ["tick"] * 5 + ["moment"] * 2 + ["home", "flip", "revoke", "keys"]
        return events[pick([*events, *often])]()

    # Requests

    def _request(self, stack: Options) -> Drawn:
        person = self._people[0] if self._is(0.6) else self._dice.choice(self._people)
        request = self._good(stack, person)
        for _ in range(self._dice.choice([0] * 6 + [1] * 4 + [2])):
            self._change(request, stack)
        return request

    def _good(self, stack: Options, person: int) -> Drawn:
        """What a good proxy or server sends for this person, with a good token."""
        names = ["certificates"] if "two" not in stack["shape"] else ["certificates"] * 2
        sources = [stack["certificates"][number]["source"] for number in range(len(names))]
        request: Drawn = {
            "method": "GET", "path": "/", "query": "", "root": "", "headers": [], "peer": "10.0.0.7", "port": 50_000,
            "tls": None, "server": "gunicorn/27.0.1", "kind": "http", "body": "", "raw": False, "extra": {},
        }  # fmt: skip
        for source in sources:
            self._add_certificate(request, source, person, "SUCCESS")
        if self._is(0.95):
            request["headers"].append(["Authorization", f"Bearer {self._text(stack, person)}"])
        if self._is(0.35):
            request["path"] = self._dice.choice([*PATHS, METADATA_PATH])
        if "client" in stack["shape"] and self._is(0.7):
            self._post(request)
        if self._is(0.1):
            request["kind"] = "websocket"
        return request

    def _add_certificate(self, request: Drawn, source: str, person: int, word: str) -> None:
        form, has_secret = SOURCES[source]
        given = self._material["people"][person]
        request["headers"] += [each for each in FORMS[form](given, word) if each[0] not in _names(request)]
        if form == "tls":
            request["tls"] = self._tls(given, word)
        if "proxy certificate" in source:
            request["tls"] = self._tls(self._material["proxies"][0 if self._is(0.5) else 1], "SUCCESS")
        if source == "nginx unix":
            request["peer"] = "unix"
        if has_secret and SECRET_NAME not in _names(request):
            request["headers"].append([SECRET_NAME, SECRET])

    def _tls(self, person: Drawn, word: str) -> Drawn:
        by = self._dice.choice(["mod_ssl"] * 4 + ["socket", "uwsgi"])
        return {"pem": person["pem"], "chain": person["chain pem"], "word": word, "by": by}

    def _post(self, request: Drawn) -> None:
        request["method"], request["path"] = "POST", "/token"
        request["headers"].append(["Content-Type", "application/x-www-form-urlencoded"])
        request["body"] = f"grant_type=client_credentials&client_id={self._dice.choice(['billing', 'other', 'plain'])}"

    def _text(self, stack: Options, person: int, kind: str = "good") -> str:
        """A token that fits the validator."""
        wanted = stack["tokens"][0]["tokens"]
        if "introspected" in wanted or (wanted == "issuers" and self._is(0.3)):
            return self._dice.choice([f"opaque-{min(person, 2)}"] * 3 + [f"ending-{min(person, 2)}", "unbound-0"])
        issuer = OTHER_ISSUER if wanted == "issuers" and self._is(0.3) else ISSUER
        if self._is(0.2) and kind == "good":
            kind = "ending"
        found = [
            each
            for each in self._material["tokens"]
            if each["issuer"] == issuer and each["kind"] == kind and each["person"] == (person if kind == "good" else 0)
        ]
        return str(found[-1 if self._is(0.3) else 0]["text"])

    def _change(self, request: Drawn, stack: Options) -> None:
        """Change one thing."""
        getattr(self, self._dice.choice(_CHANGES))(request, stack)

    def _change_word(self, request: Drawn, stack: Options) -> None:
        word = self._dice.choice(WORDS)
        for field in request["headers"]:
            if "verif" in field[0].lower() or "Chain-Verified" in field[0]:
                field[1] = word
        if request["tls"] is not None:
            request["tls"]["word"] = word

    def _change_certificate(self, request: Drawn, stack: Options) -> None:
        other = self._good(stack, self._dice.choice(self._people))
        token = [each for each in request["headers"] if each[0] == "Authorization"]
        kept = [each for each in other["headers"] if each[0] != "Authorization"]
        request["headers"], request["tls"] = kept + token, other["tls"]

    def _change_peer(self, request: Drawn, stack: Options) -> None:
        request["peer"] = self._dice.choice(["203.0.113.9", None, "unix", "10.0.0.8", "::ffff:10.0.0.7", "localhost"])

    def _change_forwarded(self, request: Drawn, stack: Options) -> None:
        value = self._dice.choice(["10.0.0.7", "203.0.113.9", "10.0.0.7:50000", "203.0.113.9, 10.0.0.7:50000"])
        request["headers"].append(["X-Forwarded-For", value])
        request["port"] = self._dice.choice([0, 50_000])
        if self._is(0.3):
            request["headers"].append(["X-Forwarded-Port", "50000"])

    def _change_server(self, request: Drawn, stack: Options) -> None:
        request["server"] = self._dice.choice([None, "waitress", "Unknown/1.0", "Werkzeug/3.1.3", "gunicorn/19.0.0"])

    def _change_secret(self, request: Drawn, stack: Options) -> None:
        request["headers"] = [each for each in request["headers"] if each[0] != SECRET_NAME]
        for value in self._dice.choice([[], [SECRET], [OLD_SECRET], [SECRET + "x"], ["a wrong secret of the proxy"]]):
            request["headers"].append([SECRET_NAME, value])

    def _change_proxy(self, request: Drawn, stack: Options) -> None:
        proxy = self._dice.choice([None, *self._material["proxies"]])
        request["tls"] = None if proxy is None else self._tls(proxy, self._dice.choice(["SUCCESS", "FAILED:expired"]))

    def _change_spelling(self, request: Drawn, stack: Options) -> None:
        request["raw"] = True
        for field in request["headers"]:
            if self._is(0.5):
                name = field[0]
                field[0] = self._dice.choice([name.upper(), name.replace("-", "_"), name.lower(), name.title()])

    def _double(self, request: Drawn, stack: Options) -> None:
        if request["headers"]:
            field = list(self._dice.choice(request["headers"]))
            if self._is(0.4):
                field[1] = self._dice.choice([field[1], "", "SUCCESS", "x", field[1][:-5]])
            if self._is(0.3):
                field[0] = field[0].replace("-", "_")
            request["headers"].insert(self._dice.randrange(len(request["headers"]) + 1), field)

    def _drop(self, request: Drawn, stack: Options) -> None:
        if request["headers"]:
            request["headers"].pop(self._dice.randrange(len(request["headers"])))

    def _shuffle(self, request: Drawn, stack: Options) -> None:
        self._dice.shuffle(request["headers"])
        request["headers"] += self._dice.choice([[], [["Accept", "*/*"]], [["X-Mode", "strict"]], [["X-Mode", "no"]]])

    def _cut(self, request: Drawn, stack: Options) -> None:
        if request["headers"]:
            field = self._dice.choice(request["headers"])
            field[1] = self._dice.choice([field[1][:-7], field[1] + "A", f" {field[1]}", "", "(null)", "é"])

    def _change_revoked(self, request: Drawn, stack: Options) -> None:
        for field in request["headers"]:
            if field[0] == "Cf-Cert-Revoked":
                field[1] = self._dice.choice(["true", "", "false", "maybe"])
            if field[0] == "Cf-Client-Cert-Sha256" and self._is(0.3):
                field[1] = "0" * 64

    def _change_chain(self, request: Drawn, stack: Options) -> None:
        chains = [each["chain pem"] for each in self._material["people"]]
        if request["tls"] is not None:
            request["tls"]["chain"] = self._dice.choice(chains)
        for field in request["headers"]:
            if field[0] in ("Client-Cert-Chain", "X-SSL-Client-Chain", "X-Client-Cert-Chain"):
                field[1] = self._dice.choice(["", "AAAA", ":AAAA:", field[1][:-9]])

    def _change_path(self, request: Drawn, stack: Options) -> None:
        request["path"] = self._dice.choice([*PATHS, METADATA_PATH, "/token", "", "admin"])

    def _change_root(self, request: Drawn, stack: Options) -> None:
        request["root"] = self._dice.choice(["/api", "/api/", "/admin", "/ap"])
        if self._is(0.3):
            request["path"] = self._dice.choice(["/api", "/api/admin", "/apiadmin"])

    def _change_method(self, request: Drawn, stack: Options) -> None:
        request["method"] = self._dice.choice(["POST", "OPTIONS", "HEAD", "PUT"])

    def _preflight(self, request: Drawn, stack: Options) -> None:
        request["method"] = "OPTIONS"
        request["headers"] += copy.deepcopy(PREFLIGHT)
        if self._is(0.3):
            request["headers"].append(["X-HTTP-Method-Override", "GET"])
        if self._is(0.5):
            request["headers"] = [each for each in request["headers"] if each[0] != "Authorization"]

    def _change_token(self, request: Drawn, stack: Options) -> None:
        kinds = ["good", "good", "unbound", "beginning", "too little", "another kind", "without jti", "unknown key"]
        text = self._text(stack, self._dice.choice([0, 1, 2]), self._dice.choice(kinds))
        value = self._dice.choice(
            [f"Bearer {text}"] * 6
            + [f"bearer  {text}", f"Bearer {text[:-3]}AAA", "Bearer a b"]
            + ["Basic YTpi", f"Basic YTpi, Bearer {text}", f"Bearer {text}é", "Bearer"]
        )
        request["headers"] = [each for each in request["headers"] if each[0] != "Authorization"]
        request["headers"].append(["Authorization", value])

    def _change_query(self, request: Drawn, stack: Options) -> None:
        request["query"] = self._dice.choice(["a=1", "access_token=x", "a=1&access%5Ftoken=y", "access_tokens=x"])

    def _change_client(self, request: Drawn, stack: Options) -> None:
        request["method"], request["path"] = "POST", "/token"
        if self._is(0.5):
            self._post(request)

    def _plant(self, request: Drawn, stack: Options) -> None:
        """Keys that only the layers may set."""
        request["extra"] = {f"mtls_middleware.{self._dice.choice(['certificate', 'token', 'attached'])}": "planted"}

    def _open_websocket(self, request: Drawn, stack: Options) -> None:
        request["kind"] = "websocket"


_CHANGES = [
    "_change_word", "_change_word", "_change_certificate", "_change_certificate", "_change_peer", "_change_peer",
    "_change_forwarded", "_change_server", "_change_secret", "_change_secret", "_change_proxy", "_change_spelling",
    "_double", "_double", "_drop", "_shuffle", "_cut", "_change_revoked", "_change_revoked", "_change_chain",
    "_change_path", "_change_path", "_change_root", "_change_method", "_preflight", "_change_token", "_change_token",
    "_change_token", "_change_query", "_change_client", "_plant", "_open_websocket",
]  # fmt: skip


def _names(request: Drawn) -> set[str]:
    return {name for name, _ in request["headers"]}


def scenarios(seed: object, material: Material) -> Iterator[Drawn]:
    """Scenarios without end."""
    drawer = Drawer(seed, material)
    while True:
        yield drawer.scenario(LENGTH)
