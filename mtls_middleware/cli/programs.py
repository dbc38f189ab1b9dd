"""Reads the options of uvicorn from a program that calls `uvicorn.run` or `uvicorn.Config`.

The program is not executed.
"""

import ast
from collections.abc import Mapping, Sequence
from pathlib import Path

from mtls_middleware.cli.python_values import MESSAGE, Imports, imports_of, value_of
from mtls_middleware.cli.settings import Settings, option_of, text_of_file

_CALLS = ("uvicorn.run", "uvicorn.main.run", "uvicorn.Config", "uvicorn.config.Config")
# The options of uvicorn that decide whether a trap in `traps` applies. An option whose value cannot be read is
# reported as unknown.
_OPTIONS = (
    "http", "ws", "interface", "ssl_cert_reqs", "proxy_headers", "forwarded_allow_ips", "root_path", "http2",
)  # fmt: skip


def program_of(words: Sequence[str]) -> Path | None:
    """Return the Python file that this command line runs (`python run.py`), or `None` if it runs another program."""
    position = next((n for n, word in enumerate(words) if Path(word).name.startswith("python")), None)
    rest = [] if position is None else words[position + 1 :]
    return next((Path(word) for word in rest if word.endswith(".py")), None)


def uvicorn_options(program: Path, environment: Mapping[str, str]) -> Settings | None:
    """Return the options with which the program calls uvicorn, or `None` if it does not call uvicorn.

    Arguments: `environment`, the environment variables of the program. uvicorn reads one of them.
    """
    try:
        tree = ast.parse(text_of_file(program))
        imports = imports_of(tree)
        uses = [node for node in ast.walk(tree) if isinstance(node, ast.expr) and _names_uvicorn(node, imports)]
        calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and node.func in uses]
    except (OSError, ValueError, SyntaxError, RecursionError, MemoryError):
        return None
    if not uses:
        return None
    found = Settings()
    if "FORWARDED_ALLOW_IPS" in environment:
        found.options["--forwarded-allow-ips"] = environment["FORWARDED_ALLOW_IPS"]
    if len(uses) > 1 or len(calls) != 1 or not _is_plain(calls[0]) or _changes_options(tree):
        why = f"{program} does not call uvicorn exactly once, with all options as keywords of this call"
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


def _names_uvicorn(node: ast.expr, imports: Imports) -> bool:
    return imports.name_of(node).replace(":", ".") in _CALLS


def _is_plain(call: ast.Call) -> bool:
    """Return whether the call has at most one positional argument, and no arguments with `*` or `**`."""
    is_starred = any(isinstance(each, ast.Starred) for each in call.args) or any(k.arg is None for k in call.keywords)
    return len(call.args) <= 1 and not is_starred


def _changes_options(tree: ast.Module) -> bool:
    """Return whether the program assigns one of the options as an attribute, for example `config.http = "h11"`."""
    return any(
        isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and node.attr in _OPTIONS
        for node in ast.walk(tree)
    )
