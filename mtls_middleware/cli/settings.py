"""Reads the options of a server from the places that the server itself reads: command line, environment, files.

No file is executed. The value of a setting in a Python file is known only if the file assigns the setting exactly once,
as a literal, at its top level.
"""

import ast
import configparser
import re
import shlex
import sys
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mtls_middleware.cli.python_values import MESSAGE, bound_by, imports_of, value_of

Options = dict[str, str]

# Server -> short form of an option -> long form. Options that no trap uses are listed if they take a value, so that the
# value is not read as another option.
_SHORT: Mapping[str, Mapping[str, str]] = {
    "gunicorn": {"-k": "--worker-class", "-c": "--config", "-b": "--bind", "-w": "--workers", "-t": "--timeout"},
    "hypercorn": {"-k": "--worker-class", "-c": "--config", "-b": "--bind", "-w": "--workers"},
    "daphne": {"-b": "--bind", "-p": "--port", "-u": "--unix-socket", "-e": "--endpoint"},
    "uwsgi": {"-b": "--buffer-size", "-s": "--socket", "-p": "--processes", "-w": "--module"},
}
# Server -> the options that traps use, for servers whose parser accepts abbreviated long options (argparse, getopt).
_ABBREVIATED: Mapping[str, Sequence[str]] = {
    "gunicorn": (
        "--config", "--worker-class", "--header-map", "--forwarder-headers", "--forwarded-allow-ips",
        "--limit-request-field_size", "--cert-reqs", "--http2-cleartext", "--http-protocols", "--proxy-protocol",
        "--protocol",
    ),
    "hypercorn": ("--config", "--worker-class", "--verify-mode"),
    "daphne": ("--proxy-headers",),
    "waitress": ("--trusted-proxy",),
    "uwsgi": ("--buffer-size", "--ini"),
}  # fmt: skip
# Server -> the prefix of the environment variables that the server reads as options.
_VARIABLES = {"uvicorn": "UVICORN_", "granian": "GRANIAN_", "uwsgi": "UWSGI_", "werkzeug": "FLASK_RUN_"}
# Server -> the settings in its configuration file that traps use.
_SETTINGS: Mapping[str, frozenset[str]] = {
    "gunicorn": frozenset({
        "header_map", "forwarder_headers", "worker_class", "http2_cleartext", "http_protocols",
        "limit_request_field_size", "cert_reqs",
        "forwarded_allow_ips", "proxy_protocol", "protocol",
    }),
    "hypercorn": frozenset({"verify_mode", "worker_class"}),
}  # fmt: skip
# Setting -> option, for options that are not the name of the setting with hyphens instead of underscores.
_OPTION = {"limit_request_field_size": "--limit-request-field_size"}
_ASSIGNED = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)=(.*)", re.DOTALL)
_LARGEST = 1_000_000  # the maximum size of a file, in octets


@dataclass(slots=True)
class Settings:
    """The options and arguments of a server.

    Attributes:
        options: a mapping of option to value (`""` for an option without a value).
        positional: the positional arguments.
        unknown: a mapping of option to the reason why its value cannot be read.
    """

    options: Options = field(default_factory=dict)
    positional: list[str] = field(default_factory=list)
    unknown: dict[str, str] = field(default_factory=dict)

    def merge(self, other: "Settings") -> None:
        """Add the settings of `other`, which has a higher priority: its values replace values of this object."""
        for option, value in other.options.items():
            _set(self.options, option, value)
            self.unknown.pop(option, None)
        for option, why in other.unknown.items():
            self.options.pop(option, None)
            self.unknown[option] = why
        self.positional += other.positional


def settings(server: str, words: Sequence[str], environment: Mapping[str, str]) -> Settings:
    """Return the settings of `server` from its command line, environment and files.

    `words`: the command line after the name of the server.
    """
    line = parse(server, words)
    found = Settings()
    match server:
        case "gunicorn":
            variable = parse(server, _words(environment.get("GUNICORN_CMD_ARGS", "")))
            place = line.options.get("--config") or variable.options.get("--config")
            if place is None and Path("gunicorn.conf.py").is_file():
                place = "gunicorn.conf.py"
            _from_environment(found, environment, "FORWARDED_ALLOW_IPS")
            for paste in ("--paste", "--paster"):
                if paste in line.options or paste in variable.options:
                    found.merge(_all_unknown(server, f"the file of {paste} may set the option"))
            found.merge(_of_file(server, place))
            found.merge(Settings(variable.options))
        case "hypercorn":
            found.merge(_of_file(server, line.options.get("--config")))
        case "uwsgi":
            for word in [*line.positional, line.options.get("--ini", "")]:
                if word.endswith((".ini", ".yml", ".yaml", ".xml", ".json")):
                    found.merge(_of_uwsgi(word))
            found.merge(_of_variables(server, environment))
        case "uvicorn":
            found.merge(_of_variables(server, environment))
            file = line.options.get("--env-file") or found.options.get("--env-file")
            extra = _of_env_file(file, found) if file else {}
            variables = Settings()
            _from_environment(variables, {**extra, **environment}, "FORWARDED_ALLOW_IPS")
            variables.merge(found)
            found = variables
        case "fastapi":  # `fastapi` calls uvicorn.run, which reads only this variable
            _from_environment(found, environment, "FORWARDED_ALLOW_IPS")
        case "granian" | "werkzeug":
            found.merge(_of_variables(server, environment))
    found.merge(line)
    return found


def parse(server: str, words: Sequence[str]) -> Settings:
    """Parse a command line as the server does: `--name value`, `--name=value`, `-n value`, `-nvalue`, `-n=value`."""
    found = Settings()
    rest = list(words)
    while rest:
        word = rest.pop(0)
        name, equals, value = word.partition("=")
        if word == "--":
            found.positional += rest
            break
        if word.startswith("--"):
            option = _full_name(server, name)
        elif word.startswith("-") and len(word) > 1:
            short = _SHORT.get(server, {}).get(word[:2])
            option, equals, value = short or name, word[2:], word[2:].removeprefix("=")
        else:
            found.positional.append(word)
            continue
        if not equals:
            value = rest[0] if rest and not rest[0].startswith("-") else ""
            # In "--reload shop.wsgi:app", the next word is the application, not the value of the option.
            if value and not _is_application(value):
                rest.pop(0)
        _set(found.options, option, value)
    return found


def assignments(words: Iterable[str]) -> dict[str, str]:
    """Return the environment variables that `words` assign, as in `NAME=value gunicorn shop.wsgi:app`."""
    return {found[1]: found[2] for word in words if (found := _ASSIGNED.fullmatch(word)) is not None}


def _is_application(word: str) -> bool:
    return re.fullmatch(r"(?:[a-z]+:)?[A-Za-z_][\w.]*:[A-Za-z_][\w.]*(?:\(\))?", word) is not None


def _set(options: Options, option: str, value: str) -> None:
    opposite = f"--{option[5:]}" if option.startswith("--no-") else f"--no-{option[2:]}"
    options.pop(opposite, None)  # if --proxy-headers and --no-proxy-headers are both given, the last one applies
    options[option] = value


def _full_name(server: str, name: str) -> str:
    known = _ABBREVIATED.get(server, ())
    candidates = [option for option in known if option.startswith(name)] if name not in known and len(name) > 3 else []
    return candidates[0] if len(candidates) == 1 else name


def _words(text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError:
        return text.split()


def _from_environment(found: Settings, environment: Mapping[str, str], name: str) -> None:
    if name in environment:
        found.options[option_of(name)] = environment[name]


def _of_variables(server: str, environment: Mapping[str, str]) -> Settings:
    prefix = _VARIABLES[server]
    found = Settings()
    for name, value in environment.items():
        if name.startswith(prefix):
            is_false = value.strip().lower() in ("0", "false", "f", "no", "n", "off")
            option = option_of(name.removeprefix(prefix))
            _set(found.options, f"--no-{option[2:]}" if is_false else option, value)
    return found


def option_of(name: str) -> str:
    """Return the option of a setting, for example `--http` for `HTTP`."""
    return _OPTION.get(name.lower(), "--" + name.lower().replace("_", "-"))


def _of_file(server: str, place: str | None) -> Settings:
    """Return the settings in a configuration file of gunicorn or hypercorn. `place` is the value of `--config`."""
    if not place:
        return Settings()
    kind, _, rest = place.partition(":")
    names = _SETTINGS[server]
    try:
        match kind:
            case "python":
                return _of_python(text_of_file(_module(rest)), names, place)
            case "file":
                return _of_python(text_of_file(Path(rest)), names, place)
            case _ if server == "hypercorn":
                return Settings({
                    option_of(name): str(value)
                    for name, value in tomllib.loads(text_of_file(Path(place))).items()
                    if name in names
                })  # fmt: skip
            case _:
                return _of_python(text_of_file(Path(place)), names, place)
    except (OSError, ValueError, SyntaxError, RecursionError, MemoryError) as error:
        return _all_unknown(server, f"{place} cannot be read ({error})")


def _all_unknown(server: str, why: str) -> Settings:
    return Settings(unknown={option_of(name): why for name in _SETTINGS[server]})


def text_of_file(path: Path) -> str:
    """Return the text of a file. Raises `OSError`, or `ValueError` if the file has more than 1 MB or is not UTF-8."""
    if path.is_fifo():  # do not open a FIFO, because this blocks until another process writes to it
        raise ValueError("it is a named pipe; expected a file")
    with path.open("rb") as file:
        data = file.read(_LARGEST + 1)
    if len(data) > _LARGEST:
        raise ValueError(f"it is larger than {_LARGEST} octets")
    return data.decode("utf-8-sig")


def _module(name: str) -> Path:
    """Return the file of a module without importing the module or its packages. Raises `FileNotFoundError`."""
    for folder in sys.path:
        path = Path(folder).joinpath(*name.split("."))
        for file in (path / "__init__.py", path.with_name(path.name + ".py")):
            if file.is_file():
                return file
    raise FileNotFoundError(f"sys.path has no module {name}")


def _of_python(source: str, names: frozenset[str], place: str) -> Settings:
    found = Settings()
    tree = ast.parse(source)
    plain = [(name, value) for statement in tree.body for name, value in _assignments(statement)]
    opaque, imports = _is_opaque(tree), imports_of(tree)
    for name in names:
        stores = sum(1 for node in ast.walk(tree) if _binds(node, name))
        values = [value for each, value in plain if each == name]
        if opaque or stores != len(values):
            if opaque or stores:
                found.unknown[option_of(name)] = f"{place} does not assign {name} exactly once, at its top level"
        elif values:
            try:
                found.options[option_of(name)] = value_of(values[-1], imports)
            except ValueError:
                found.unknown[option_of(name)] = MESSAGE.format(place=place, name=name)
    return found


def _assignments(statement: ast.stmt) -> Iterator[tuple[str, ast.expr]]:
    match statement:
        case ast.Assign(targets=targets, value=value):
            yield from ((target.id, value) for target in targets if isinstance(target, ast.Name))
        case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value):
            yield name, value


def _binds(node: ast.AST, name: str) -> bool:
    """Return whether the node binds the name, or an attribute with this name."""
    return name in bound_by(node) or (
        isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and node.attr == name
    )


def _is_opaque(tree: ast.Module) -> bool:
    """Return whether the file may assign names that do not occur in its text, for example by `import *` or `exec`."""
    for node in ast.walk(tree):
        match node:
            case ast.ImportFrom(names=names) if any(each.name == "*" for each in names):
                return True
            case ast.Name(id="exec" | "eval" | "globals" | "locals" | "vars" | "setattr" | "__builtins__"):
                return True
    return False


def _of_uwsgi(place: str) -> Settings:
    try:
        if not place.endswith(".ini"):
            raise ValueError("expected a .ini file")
        parser = configparser.ConfigParser(strict=False, interpolation=None, allow_no_value=True, delimiters=("=",))
        parser.optionxform = str  # type: ignore[assignment, method-assign]  # as in the documentation of configparser
        parser.read_string(text_of_file(Path(place)))
        section = dict(parser["uwsgi"]) if parser.has_section("uwsgi") else {}
    except (OSError, ValueError, AttributeError, configparser.Error) as error:
        return Settings(unknown={"--buffer-size": f"{place} cannot be read ({error})"})
    return Settings({f"--{name}": value or "" for name, value in section.items()})


def _of_env_file(place: str, found: Settings) -> dict[str, str]:
    try:
        lines = text_of_file(Path(place)).splitlines()
    except (OSError, ValueError) as error:
        found.unknown["--forwarded-allow-ips"] = f"{place} cannot be read ({error})"
        return {}
    variables = assignments(line.strip().removeprefix("export ").lstrip() for line in lines)
    return {name: value.strip().strip("'\"") for name, value in variables.items()}
