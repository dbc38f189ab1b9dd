"""Draws requests to one stack: some regular ones, which come again and again, and changed ones."""

import copy
import random
from collections.abc import Iterator
from typing import Any

from tests.differential.header_forms import FORMS, OLD_SECRET, SECRET, SECRET_NAME, SOURCES, WORDS
from tests.differential.material import ISSUER, OTHER_ISSUER, Material

Options = dict[str, Any]
Drawn = dict[str, Any]

PATHS = ["/", "/admin", "/admin/users", "/public", "/health", "/static/a", "/static", "/admin;x", "//admin", "/adminx"]
METADATA_PATH = "/.well-known/oauth-protected-resource"
PREFLIGHT = [["Origin", "https://app.test"], ["Access-Control-Request-Method", "GET"]]


class RequestDrawer:
    """Draws requests to a stack with these options, by these people."""

    def __init__(self, dice: random.Random, material: Material, stack: Options, people: list[int]) -> None:
        self._dice, self._material, self._stack, self._people = dice, material, stack, people
        used = stack["certificates"] if "two" in stack["shape"] else stack["certificates"][:1]
        self._sources: list[str] = [each["source"] for each in used]
        self._likely = self._likely_changes()
        self._regular = [self._good(people[0]) for _ in range(2)] + [self._good(each) for each in people]

    def _is(self, probability: float) -> bool:
        return self._dice.random() < probability

    def regular(self) -> Drawn:
        """One of the regular requests, unchanged."""
        return copy.deepcopy(self._dice.choice(self._regular))

    def request(self) -> Drawn:
        request = self.regular() if self._is(0.75) else self._good(self._dice.choice(self._people))
        for _ in range(self._dice.choice([0] * 5 + [1] * 4 + [2])):
            getattr(self, self._dice.choice(self._likely if self._is(0.5) else _CHANGES))(request)
        return request

    def sweep(self) -> Iterator[Drawn]:
        """The same regular request, and after it a copy with one likely change, for each of these changes."""
        regular = self._regular[0]
        for change in self._likely * 2:
            yield copy.deepcopy(regular)
            changed = copy.deepcopy(regular)
            getattr(self, change)(changed)
            yield changed

    def _likely_changes(self) -> list[str]:
        """Changes of what the stack reads."""
        found = ["_change_token", "_change_path", "_open_websocket"]
        if self._stack["shape"] != "certificate":
            found += ["_change_token", "_change_query"]
        if any(each["resource_metadata"] == "document" for each in self._stack["tokens"]):
            found += ["_ask_metadata"] * 3
        for source in self._sources:
            form, has_secret = SOURCES[source]
            found += ["_change_secret", "_change_secret"] if has_secret else []
            found += ["_change_tls", "_change_chain"] if form == "tls" else ["_change_word", "_double", "_change_peer"]
            found += ["_change_server"] if form != "tls" else []
            found += ["_change_revoked"] * 2 if form == "cloudflare" else []
            found += ["_change_chain"] * 2 if form in ("haproxy", "rfc9440", "google") else []
            found += ["_change_proxy"] * 2 if "proxy certificate" in source else []
            found += ["_change_peer", "_change_server"] * 2 if source in ("nginx unix", "nginx secrets alone") else []
            found += ["_change_mode"] * 5 if source.startswith("user's") else []
        return found

    def _good(self, person: int) -> Drawn:
        """What a good proxy or server sends for this person, with a good token."""
        request: Drawn = {
            "method": "GET", "path": "/", "query": "", "root": "", "headers": [], "peer": "10.0.0.7", "port": 50_000,
            "tls": None, "server": "gunicorn/27.0.1", "kind": "http", "body": "", "raw": False, "extra": {},
            "stays": self._is(0.5), "adapter": False,
        }  # fmt: skip
        for number, source in enumerate(self._sources):
            other = number and self._is(0.2)
            self._add_certificate(request, source, self._dice.choice(self._people) if other else person, "SUCCESS")
        if self._is(0.95):
            request["headers"].append(["Authorization", f"Bearer {self._text(person)}"])
        if self._is(0.35):
            request["path"] = self._dice.choice([*PATHS, METADATA_PATH])
        if "client" in self._stack["shape"] and self._is(0.4):
            self._post(request)
        if self._is(0.07):
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

    def _text(self, person: int, kind: str = "good") -> str:
        """A token that fits the validator."""
        wanted = self._stack["tokens"][0]["tokens"]
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

    def _change_word(self, request: Drawn) -> None:
        word = self._dice.choice(WORDS)
        for field in request["headers"]:
            if "verif" in field[0].lower() or "Chain-Verified" in field[0]:
                field[1] = word
        if request["tls"] is not None:
            request["tls"]["word"] = word

    def _change_certificate(self, request: Drawn) -> None:
        other = self._good(self._dice.choice(self._people))
        token = [each for each in request["headers"] if each[0] == "Authorization"]
        kept = [each for each in other["headers"] if each[0] != "Authorization"]
        request["headers"], request["tls"] = kept + token, other["tls"]

    def _change_peer(self, request: Drawn) -> None:
        request["peer"] = self._dice.choice(["203.0.113.9", None, "unix", "10.0.0.8", "::ffff:10.0.0.7", "localhost"])

    def _change_forwarded(self, request: Drawn) -> None:
        value = self._dice.choice(["10.0.0.7", "203.0.113.9", "10.0.0.7:50000", "203.0.113.9, 10.0.0.7:50000"])
        request["headers"].append(["X-Forwarded-For", value])
        request["port"] = self._dice.choice([0, 50_000])
        if self._is(0.3):
            request["headers"].append(["X-Forwarded-Port", "50000"])

    def _change_server(self, request: Drawn) -> None:
        """The WSGI server; under ASGI, a WSGI server below an adapter."""
        request["server"] = self._dice.choice([None, "waitress", "Unknown/1.0", "Werkzeug/3.1.3", "gunicorn/19.0.0"])
        request["adapter"] = self._is(0.7)

    def _change_secret(self, request: Drawn) -> None:
        request["headers"] = [each for each in request["headers"] if each[0] != SECRET_NAME]
        for value in self._dice.choice([[], [SECRET], [OLD_SECRET], [SECRET + "x"], ["a wrong secret of the proxy"]]):
            request["headers"].append([SECRET_NAME, value])

    def _change_proxy(self, request: Drawn) -> None:
        proxy = self._dice.choice([None, *self._material["proxies"]])
        request["tls"] = None if proxy is None else self._tls(proxy, self._dice.choice(["SUCCESS", "FAILED:expired"]))

    def _change_tls(self, request: Drawn) -> None:
        person = self._material["people"][self._dice.choice(self._people)]
        request["tls"] = self._dice.choice([None, self._tls(person, self._dice.choice(["SUCCESS", *WORDS]))])

    def _change_mode(self, request: Drawn) -> None:
        request["headers"].append(["X-Mode", "strict"])

    def _change_spelling(self, request: Drawn) -> None:
        request["raw"] = True
        for field in request["headers"]:
            if self._is(0.5):
                name = field[0]
                field[0] = self._dice.choice([name.upper(), name.replace("-", "_"), name.lower(), name.title()])

    def _double(self, request: Drawn) -> None:
        if request["headers"]:
            field = list(self._dice.choice(request["headers"]))
            if self._is(0.4):
                field[1] = self._dice.choice([field[1], "", "SUCCESS", "x", field[1][:-5]])
            if self._is(0.3):
                field[0] = field[0].replace("-", "_")
            request["headers"].insert(self._dice.randrange(len(request["headers"]) + 1), field)

    def _drop(self, request: Drawn) -> None:
        if request["headers"]:
            request["headers"].pop(self._dice.randrange(len(request["headers"])))

    def _shuffle(self, request: Drawn) -> None:
        self._dice.shuffle(request["headers"])
        request["headers"] += self._dice.choice([[], [["Accept", "*/*"]], [["X-Mode", "strict"]], [["X-Mode", "no"]]])

    def _cut(self, request: Drawn) -> None:
        if request["headers"]:
            field = self._dice.choice(request["headers"])
            field[1] = self._dice.choice([field[1][:-7], field[1] + "A", f" {field[1]}", "", "(null)", "é"])

    def _change_revoked(self, request: Drawn) -> None:
        for field in request["headers"]:
            if field[0] == "Cf-Cert-Revoked":
                field[1] = self._dice.choice(["true", "", "false", "maybe"])
            if field[0] == "Cf-Client-Cert-Sha256" and self._is(0.3):
                field[1] = "0" * 64

    def _change_chain(self, request: Drawn) -> None:
        chains = [each["chain pem"] for each in self._material["people"]]
        if request["tls"] is not None:
            request["tls"]["chain"] = self._dice.choice(chains)
        for field in request["headers"]:
            if field[0] in ("Client-Cert-Chain", "X-SSL-Client-Chain", "X-Client-Cert-Chain"):
                field[1] = self._dice.choice(["", "AAAA", ":AAAA:", field[1][:-9]])

    def _change_path(self, request: Drawn) -> None:
        request["path"] = self._dice.choice([*PATHS, METADATA_PATH, "/token", "", "admin"])

    def _ask_metadata(self, request: Drawn) -> None:
        request["path"] = METADATA_PATH

    def _change_root(self, request: Drawn) -> None:
        request["root"] = self._dice.choice(["/api", "/api/", "/admin", "/ap"])
        if self._is(0.3):
            request["path"] = self._dice.choice(["/api", "/api/admin", "/apiadmin"])

    def _change_method(self, request: Drawn) -> None:
        request["method"] = self._dice.choice(["POST", "OPTIONS", "HEAD", "PUT"])

    def _preflight(self, request: Drawn) -> None:
        request["method"] = "OPTIONS"
        request["headers"] += copy.deepcopy(PREFLIGHT)
        if self._is(0.3):
            request["headers"].append(["X-HTTP-Method-Override", "GET"])
        if self._is(0.5):
            request["headers"] = [each for each in request["headers"] if each[0] != "Authorization"]

    def _change_token(self, request: Drawn) -> None:
        kinds = ["good", "good", "unbound", "beginning", "too little", "another kind", "without jti", "unknown key"]
        text = self._text(self._dice.choice([0, 1, 2]), self._dice.choice(kinds))
        value = self._dice.choice(
            [f"Bearer {text}"] * 6
            + [f"bearer  {text}", f"Bearer {text[:-3]}AAA", "Bearer a b"]
            + ["Basic YTpi", f"Basic YTpi, Bearer {text}", f"Bearer {text}é", "Bearer"]
        )
        request["headers"] = [each for each in request["headers"] if each[0] != "Authorization"]
        request["headers"].append(["Authorization", value])

    def _change_query(self, request: Drawn) -> None:
        request["query"] = self._dice.choice(["a=1", "access_token=x", "a=1&access%5Ftoken=y", "access_tokens=x"])

    def _change_client(self, request: Drawn) -> None:
        request["method"], request["path"] = "POST", "/token"
        if self._is(0.5):
            self._post(request)

    def _plant(self, request: Drawn) -> None:
        """Keys that only the layers may set."""
        request["extra"] = {f"mtls_middleware.{self._dice.choice(['certificate', 'token', 'attached'])}": "planted"}

    def _open_websocket(self, request: Drawn) -> None:
        request["kind"], request["stays"] = "websocket", self._is(0.5)


_CHANGES = [
    "_change_word", "_change_word", "_change_certificate", "_change_certificate", "_change_peer", "_change_peer",
    "_change_forwarded", "_change_server", "_change_secret", "_change_secret", "_change_proxy", "_change_spelling",
    "_double", "_double", "_drop", "_shuffle", "_cut", "_change_revoked", "_change_revoked", "_change_chain",
    "_change_path", "_change_path", "_change_root", "_change_method", "_preflight", "_change_token", "_change_token",
    "_change_token", "_change_query", "_change_client", "_change_tls", "_plant", "_open_websocket",
]  # fmt: skip


def _names(request: Drawn) -> set[str]:
    return {name for name, _ in request["headers"]}
