"""Builds the configuration files of a proxy from the templates in its folder.

Each proxy has one folder of templates:

- `<file>.template` becomes a file of the configuration. Subfolders become folders of the configuration.
- `<file>.<choice>.template` becomes a file of the configuration only if the choice applies.
- `<part>.<choice>` is the text that replaces `@@{part}` in the templates if the choice applies.
- `deleted` is the line of the configuration that deletes one header field.

The choices are the forms, the modes, `tcp` and `unix` (how the proxy connects to the application), `secret` (a secret
is given), `crl` and `ocsp` (revocation lists or a responder are given), `named` and `nameless` (whether server names
are given), and `several` (more than one server name is given).
"""

import re
from collections.abc import Iterator, Mapping
from importlib.resources import files
from importlib.resources.abc import Traversable
from itertools import product
from string import Template

from mtls_middleware.cli.forwarded_fields import DELETED_FIELDS, SET_FIELDS
from mtls_middleware.cli.proxies import PROXIES
from mtls_middleware.cli.proxy_options import SECRET_VARIABLE, ProxyOptions, endpoint, is_address
from mtls_middleware.sources.vendors import KNOWN_HEADERS

_TEMPLATES = files("mtls_middleware.cli") / "templates"
# The names of the files with environment variables. One file is for the application. The other file is for a proxy that
# reads the secret from its environment.
APPLICATION_ENVIRONMENT, PROXY_ENVIRONMENT = "application.env", "proxy.env"
# The parts of a template that occur inside other parts. They are inserted first.
_INNER_PARTS = ("words", "server_aliases", "revocation_lists")
# The parts that are replaced by an empty string if no template defines them.
_EMPTY = dict.fromkeys(
    ("head", "tail", "secret_field", "secret_note", "server_names", "server_aliases", "revocation_lists", "responder"),
    "",
)


def configuration(options: ProxyOptions, *, command: str = "") -> dict[str, str]:
    """Return the files of a configuration as a mapping of path to content. The proxy is started with the first file.

    Arguments: `command`, the arguments of the command line. A comment at the top of the configuration contains them.

    Raises `ConfigurationError` if neither the address of the proxy nor a secret is known.

    Example: `configuration(ProxyOptions(proxy="caddy"))["Caddyfile"]`
    """
    templates = dict(_template_texts(_TEMPLATES / options.proxy))
    choices = _choices(options)
    values = _values(options, command)
    line = templates.pop("deleted")
    values["deleted"] = "\n".join(_fill(line, {"name": name}) for name in _deleted_names(options))
    for name in sorted(templates, key=lambda each: not each.startswith(_INNER_PARTS)):
        part, _, part_choice = name.partition(".")
        if part_choice in choices:
            values[part] = _fill(templates[name], values)
    contents = {}
    for name in sorted(templates, key=lambda each: (each.count("."), each not in _MAIN_FILES, each)):
        if name.endswith(".template"):
            file, choice = _file_of(name)
            if choice is None or choice in choices:
                contents[file] = _fill(templates[name], values).rstrip("\n") + "\n"
    if options.secret:
        environment = _fill((_TEMPLATES / "application.env").read_text("utf-8"), values)
        contents[APPLICATION_ENVIRONMENT] = environment
        if PROXIES[options.proxy].environment:
            contents[PROXY_ENVIRONMENT] = environment.replace("application's service", "proxy's service")
    return contents


# The file with which each proxy is started. It refers to the other files of the configuration.
_MAIN_FILES = frozenset({"traefik.yml.template", "Caddyfile.template"})
_FILE_CHOICES = ("idiomatic", "rfc9440", "secret")


def _choices(options: ProxyOptions) -> set[str]:
    named = options.server_names
    return {
        options.form,
        options.mode,
        "unix" if options.socket else "tcp",
        "named" if named else "nameless",
        *(["several"] if len(named) > 1 else []),
        *(name for name in ("secret", "crl", "ocsp") if getattr(options, name)),
    }


def _template_texts(folder: Traversable, prefix: str = "") -> Iterator[tuple[str, str]]:
    for each in folder.iterdir():
        if each.is_dir():
            yield from _template_texts(each, f"{prefix}{each.name}/")
        else:
            yield prefix + each.name, each.read_text("utf-8").rstrip("\n")


def _deleted_names(options: ProxyOptions) -> list[str]:
    proxy = PROXIES[options.proxy]
    if not proxy.spelled_out:
        return sorted((KNOWN_HEADERS | DELETED_FIELDS) - proxy.kept[options.form])
    secret = {options.secret_header.lower()} if options.secret_header else set()
    names = sorted(KNOWN_HEADERS | DELETED_FIELDS | set(SET_FIELDS) | secret)
    parts = (re.split("(-)", name) for name in names)
    return ["".join(each) for name in parts for each in product(*(("-", "_") if x == "-" else (x,) for x in name))]


def _file_of(template: str) -> tuple[str, str | None]:
    """Return the file that a template becomes, and its choice. The choice is `None` if the file is always written."""
    name = template.removesuffix(".template")
    for choice in _FILE_CHOICES:
        if name.endswith(f".{choice}"):
            return name.removesuffix(f".{choice}"), choice
    return name, None


def _values(options: ProxyOptions, command: str) -> dict[str, str]:
    listen, listen_port = endpoint("listen", options.listen)
    upstream, upstream_port = ("", "") if options.socket else endpoint("upstream", options.upstream)
    values = {
        "listen": options.listen if listen else {"haproxy": f":{listen_port}"}.get(options.proxy, listen_port),
        "upstream": options.upstream,
        "socket": options.socket or "",
        "listen_host": listen.strip("[]") or "0.0.0.0",  # noqa: S104 (no host means every address)
        "listen_port": listen_port,
        "upstream_host": upstream.strip("[]"),
        "upstream_port": upstream_port,
        "ca": options.ca,
        "crl": options.crl or "",
        "ocsp": options.ocsp or "",
        "certificate": options.certificate,
        "key": options.key,
        "secret_header": options.secret_header or "",
        "secret": options.secret or "",
        "secret_variable": SECRET_VARIABLE,
        "secret_path": options.folder,
        "proxy": options.proxy,
        "safe_releases": PROXIES[options.proxy].safe_releases,
        "advisory": PROXIES[options.proxy].advisory,
        "source": options.source(),
        "class": options.source_class,
        "command": command or options.proxy,
        "imports": "    import os" if options.secret else "",
        "vhost": options.listen if listen else f"*:{listen_port}",
        "caddy_bind": f"\tbind {listen.strip('[]')}" if listen else "",
        "envoy_discovery": "STATIC" if options.socket or is_address(upstream.strip("[]")) else "STRICT_DNS",
    }
    if options.proxy == "traefik" and not listen:
        values["listen"] = f":{listen_port}"
    values |= _names(options, listen_port)
    if options.secret:
        note = (_TEMPLATES / "secret_note.secret").read_text("utf-8").rstrip("\n")
        values["proxy_secret_note"] = _PROXY_NOTES[PROXIES[options.proxy].environment]
        values["secret_note"] = _fill(note, values)
    values = _EMPTY | values
    instructions = _fill((_TEMPLATES / "instructions.txt").read_text("utf-8").rstrip("\n"), values)
    values["instructions"] = "\n".join(f"# {line}".rstrip() for line in instructions.splitlines())
    return values


# Notes for the operator. The key is whether the proxy reads the secret from its environment.
_PROXY_NOTES = {True: f"Start the proxy with the environment of {PROXY_ENVIRONMENT}.", False: ""}


def _names(options: ProxyOptions, port: str) -> dict[str, str]:
    """Return the values of the parts that depend on the server names, in the syntax of the proxy."""
    names = options.server_names
    separator = {"envoy": ", "}.get(options.proxy, " ")
    return {
        "names": separator.join(names),
        "first_name": names[0] if names else "",
        "further_names": " ".join(names[1:]),
        "sites": ", ".join(f"https://{name}:{port}" for name in names or ("",)),
        "rule": " || ".join(f"Host(`{name}`)" for name in names) or "PathPrefix(`/`)",
        "router_tls": "{options: application}" if names else "{}",
        "middlewares": ", ".join(
            ["without-client-certificates", "client-certificate", *(["proxy-secret"] if options.secret else [])]
        ),
    }


class _PartTemplate(Template):
    """A `string.Template` whose parts are written `@@{name}`, because no proxy's configuration uses this syntax."""

    delimiter = "@@"


# Matches a line that contains one part and nothing else.
_PART_LINE = re.compile(r"^@@\{(\w+)\}\n", re.MULTILINE)


def _fill(text: str, values: Mapping[str, str]) -> str:
    """Replace each part of a template by its value. A line with only a part is dropped if the value is empty."""
    return _PartTemplate(_PART_LINE.sub(lambda line: line[0] if values[line[1]] else "", text)).substitute(values)
