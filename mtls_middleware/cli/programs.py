"""Reads the options of uvicorn from a Python program that calls `uvicorn.run` or `uvicorn.Config`. Executes nothing."""

import ast
from collections.abc import Mapping, Sequence
from pathlib import Path

from mtls_middleware.cli.python_values import MESSAGE, imports_of, value_of
from mtls_middleware.cli.settings import Settings, option_of, read_file

_CALLS = ("uvicorn.run", "uvicorn.main.run", "uvicorn.Config", "uvicorn.config.Config")
# The options that traps use. If they cannot be read, they are unknown.
_OPTIONS = (
    "http", "ws", "interface", "ssl_cert_reqs", "proxy_headers", "forwarded_allow_ips", "root_path", "http2",
)  # fmt: skip


def program_of(words: Sequence[str]) -> Path | None:
    """Return the Python file that this command line runs (`python run.py`), or `None` if it runs another program."""
    position = next((n for n, word in enumerate(words) if Path(word).name.startswith("python")), None)
    rest = [] if position is None else [word for word in words[position + 1 :] if not word.startswith("-")]
    return Path(rest[0]) if rest and rest[0].endswith(".py") else None


def uvicorn_options(program: Path, environment: Mapping[str, str]) -> Settings | None:
    """Return the options with which the program calls uvicorn, or `None` if it does not call uvicorn.

    Arguments: `environment`, the environment variables of the program. uvicorn reads one of them.
    """
    try:
        tree = ast.parse(read_file(program))
    except (OSError, ValueError, SyntaxError, RecursionError, MemoryError):
        return None
    imports = imports_of(tree)
    calls = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and imports.name_of(node.func).replace(":", ".") in _CALLS
    ]
    if not calls:
        return None
    found = Settings()
    if "FORWARDED_ALLOW_IPS" in environment:
        found.options["--forwarded-allow-ips"] = environment["FORWARDED_ALLOW_IPS"]
    if len(calls) > 1 or any(each.arg is None for call in calls for each in call.keywords):
        why = f"{program} calls uvicorn several times, or with **"
        found.merge(Settings(unknown={option_of(name): why for name in _OPTIONS}))
        return found
    for keyword in calls[0].keywords:
        if keyword.arg in _OPTIONS:
            option = option_of(keyword.arg)
            try:
                value = value_of(keyword.value, imports)
            except ValueError:
                found.merge(Settings(unknown={option: MESSAGE.format(place=program, name=keyword.arg)}))
                continue
            if value in ("True", "False") and keyword.arg in ("proxy_headers", "http2"):
                option, value = option if value == "True" else f"--no-{option[2:]}", ""
            found.merge(Settings({option: value}))
    return found
