"""The introspection server of these tests in a process of its own: it can be killed, and costs the loop nothing.

It also serves keys at `keys_url`. `python -m tests.faults.server_process PORT PORT` serves both, and takes one JSON
command on each line of its standard input.
"""

import json
import subprocess
import sys
import threading
import time
from collections import Counter, deque
from typing import Any, Self

from tests.introspection_server import CLIENT_ID, CLIENT_SECRET, IntrospectionServer, says
from tests.introspection_server import endless as too_much
from tests.introspection_server import moved as redirected
from tests.key_server import KeyServer, die, raw
from tests.loopback import Behaviour

ANSWER = b'{"active": true}'  # what no fault may turn into a yes
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 16\r\n\r\n"


_KEPT = 5_000  # maximum number of requests that are counted


def stall(handler: Any) -> None:
    handler.owner.wait(30)


FAULTS: dict[str, Behaviour] = {
    "stalls": stall,
    "drips": raw(HEAD, *[ANSWER[at : at + 1] for at in range(16)], pause=0.5),
    "garbage": raw(b"\0\xff active: true\r\n\r\n"),
    "no JSON": says(b"{active: true}"),
    "redirects": redirected,
    "100 MB": too_much,
    "closes at once": die,
    "closes mid-answer": raw(HEAD + ANSWER[:9]),
}


class Truth(dict[str, Any]):
    """What the server knows: "bound.THUMBPRINT.anything" is a good token of that certificate's holder, and
    "unbound.anything" one of nobody in particular. All others are not active.
    """

    def get(self, token: str, default: Any = None) -> Any:
        kind, _, rest = token.partition(".")
        usual = {"active": True, "token_type": "Bearer", "sub": "user", "exp": int(time.time()) + 3600}
        match kind:
            case "bound":
                return {**usual, "cnf": {"x5t#S256": rest.partition(".")[0]}}
            case "unbound":
                return usual
        return default


class ServerProcess:
    """`with ServerProcess() as server:` then `server.options`, `server.fault(...)`, `server.kill()`, `server.start()`.

    `options`: keywords of `IntrospectedAccessTokens`.
    """

    def __init__(self) -> None:
        self._ports = [0, 0]
        self._lock = threading.Lock()
        self._process: subprocess.Popen[str] | None = None
        self.start()
        url = f"http://127.0.0.1:{self._ports[0]}/introspect"
        self.keys_url = f"http://127.0.0.1:{self._ports[1]}/jwks"
        self.options = {"endpoint": url, "client_id": CLIENT_ID, "client_secret": CLIENT_SECRET, "allow_http": True}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def start(self) -> None:
        """Also again, at the same address."""
        command = [sys.executable, "-m", __name__, *map(str, self._ports)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._ports = self._read()

    def kill(self) -> None:
        """As `kill -9`: connections are reset, and the address refuses new ones."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None

    def fault(self, name: str | None) -> None:
        """What it does from now on with every request; `None`: its best."""
        self._ask({"fault": name})

    def serve_keys(self, jwks: dict[str, Any]) -> None:
        """Serve this JWK Set, until the process is killed."""
        self._ask({"jwks": jwks})

    def counts(self) -> "Counts":
        """What it has been asked since it was started."""
        return Counts(**self._ask({}))

    def _ask(self, command: dict[str, Any]) -> Any:
        assert self._process is not None
        assert self._process.stdin is not None
        with self._lock:
            print(json.dumps(command), file=self._process.stdin, flush=True)
            return self._read()

    def _read(self) -> Any:
        assert self._process is not None
        assert self._process.stdout is not None
        return json.loads(self._process.stdout.readline())


class Counts:
    """Requests in all and by token; connections in all."""

    def __init__(self, tokens: dict[str, int], connections: int) -> None:
        self.tokens, self.connections = tokens, connections
        self.requests = sum(tokens.values())


def main() -> None:
    ports = list(map(int, sys.argv[1:]))
    with IntrospectionServer(Truth(), port=ports[0]) as server, KeyServer({}, port=ports[1]) as keys:
        # Without a bound, the garbage collector would stop the server for seconds after some 100,000 requests.
        server.questions, server.connections, keys.asked = deque(maxlen=_KEPT), deque(maxlen=_KEPT), deque(maxlen=_KEPT)
        print([server.port, keys.port], flush=True)
        for line in sys.stdin:
            command = json.loads(line)
            if "fault" in command:
                server.behaviour = keys.behaviour = FAULTS[command["fault"]] if command["fault"] else None
            if "jwks" in command:
                keys.jwks = command["jwks"]
            tokens = Counter(question.token for question in list(server.questions))
            print(json.dumps({"tokens": tokens, "connections": len(server.connections)}), flush=True)


if __name__ == "__main__":
    main()
