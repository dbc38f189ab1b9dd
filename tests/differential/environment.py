"""What decisions depend on outside of a request: the clock, files, other servers, revocations, and users' rules."""

import base64
import importlib
import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

from mtls_middleware.errors import Unavailable
from tests.differential.material import ISSUER, Material, token_entry

try:
    from mtls_middleware.revocation import RedisRevocations
except ImportError:  # of an older commit
    from mtls_middleware.resource_server import RedisRevocations

KEYS_AT, INTROSPECTION_AT = "https://issuer.test/jwks", "https://as.test/introspect"
_METADATA_AT = "https://issuer.test/.well-known/oauth-authorization-server"


class Revocations(RedisRevocations):
    """A list of revocations without Redis. It is unavailable if `entries` is `None`."""

    def __init__(self) -> None:
        self.entries: set[bytes] | None = set()

    def __contains__(self, entry: bytes) -> bool:
        if self.entries is None:
            raise Unavailable("the list of revocations was never read", retry_after=1)
        return entry in self.entries


class Outside:
    """The state outside of the stacks. `apply` changes it by an event of `scenarios.py`, and `reset` starts again."""

    def __init__(self, material: Material, folder: Path) -> None:
        self.material, self.folder = material, folder
        self.roots, self.lists = folder / "roots.pem", folder / "lists"
        self.revocations = Revocations()
        self.lists.mkdir()
        self.reset()

    def reset(self) -> None:
        self.now = float(self.material["now"])
        self.flipped = False
        self._keys, self._answers, self._is_up = "old", "usual", True
        self.revocations.entries = set()
        self._write(self.roots, self.material["roots"]["ca"].encode("ascii"))
        self._write_lists("empty")

    def apply(self, event: list[Any]) -> None:
        match event:
            case ["add", seconds]:
                self.now += seconds
            case ["set", moment]:
                self.now = float(moment)
            case ["flip"]:
                self.flipped = not self.flipped
            case ["revoke", what, person]:
                self._revoke(what, person)
            case ["roots", name]:
                self._write(self.roots, self.material["roots"][name].encode("ascii"))
            case ["list", name]:
                self._write_lists(name)
            case ["keys", name]:
                self._keys = name
            case ["answers", name]:
                self._answers = name
            case ["network", is_up]:
                self._is_up = is_up

    def _revoke(self, what: str, person: int) -> None:
        """Revoke a person or his tokens, or lose the list. The next event of this kind ends that."""
        revocations = self.revocations
        if revocations.entries != set():
            revocations.entries = set()
        elif what == "list":
            revocations.entries = None
        elif what == "person":
            thumbprint = self.material["people"][person]["thumbprint"]
            revocations.entries = {base64.urlsafe_b64decode(thumbprint + "=")}
        else:
            tokens = [each["text"] for each in self.material["tokens"] if each["person"] == person]
            revocations.entries = {token_entry(each) for each in tokens}

    def _write_lists(self, name: str) -> None:
        for each in self.lists.iterdir():
            each.unlink()
        for number, octets in enumerate(self.material["lists"][name]):
            self._write(self.lists / f"{number}.crl", bytes.fromhex(octets))

    def _write(self, path: Path, octets: bytes) -> None:
        new = path.with_suffix(".new")
        new.write_bytes(octets)
        os.replace(new, path)

    def answer(self, url: str, form: dict[str, str]) -> Any:
        """The JSON document that a server answers with; `None` if it cannot be reached."""
        if not self._is_up:
            return None
        if url == INTROSPECTION_AT:
            known = self.material["answers"].get(form["token"], {})
            return known.get(self._answers, {"active": False})
        documents = {
            KEYS_AT: self.material["keys"][self._keys],
            _METADATA_AT: {"issuer": ISSUER, "jwks_uri": KEYS_AT},
        }
        return documents.get(url)

    def begin(self, fetch: Any, *_: object, **__: object) -> None:
        """Instead of the library's function that begins an exchange: the answer is there at once."""
        if fetch.outcome.done():
            return
        exchange: Any = sys.modules[type(fetch).__module__]
        found = self.answer(fetch.url, dict(fetch.form or ()))
        if found is None:
            fetch.outcome.set_exception(exchange.FetchFailed("no answer"))
        else:
            body = json.dumps(found).encode("ascii")
            fetch.outcome.set_result(exchange.Response(200, body, "application/json"))

    @contextmanager
    def waiting(self, fetch: Any, *_: object, **__: object) -> Iterator[float]:
        """Instead of the library's function that waits for an exchange."""
        self.begin(fetch)
        yield 5.0

    def _time(self) -> float:
        return self.now

    @contextmanager
    def around(self) -> Iterator[None]:
        """Put this clock and these servers in the place of the real ones."""
        with ExitStack() as patched:
            patched.enter_context(mock.patch.object(time, "time", self._time))
            patched.enter_context(mock.patch.object(_background(), "begin", self.begin))
            if hasattr(_background(), "waiting"):  # not in older commits
                patched.enter_context(mock.patch.object(_background(), "waiting", self.waiting))
            yield


def _background() -> Any:
    try:
        return importlib.import_module("mtls_middleware.effects.background")
    except ImportError:  # of an older commit
        return importlib.import_module("mtls_middleware.background")
