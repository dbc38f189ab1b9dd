"""Makes a proxy's configuration from the templates of its folder. Vendor facts are in those files.

A folder has `<file>.template` for each file of the configuration (folders within are the configuration's own),
`deleted` for the line that deletes one field, and parts that the templates name as `@@{part}`: `<part>.<choice>`. A
choice is a form, a mode, `tcp` or `unix` (the way to the application), `secret` (there is one), `named` or `nameless`
(server names are given or not) or `several` (more than one name is given). `<file>.<choice>.template` is a file for
that choice alone.
"""

import re
from collections.abc import Iterator, Mapping
from importlib.resources import files
from importlib.resources.abc import Traversable
from itertools import product
from string import Template

from mtls_middleware.cli.proxies import PROXIES
from mtls_middleware.cli.proxy_options import SECRET_VARIABLE, ProxyOptions, endpoint, is_address
from mtls_middleware.sources.vendors import KNOWN_HEADERS

_TEMPLATES = files("mtls_middleware.cli") / "templates"
# The environment file for the application; a proxy that reads the secret from its environment has one of its own.
APPLICATION_ENVIRONMENT, PROXY_ENVIRONMENT = "application.env", "proxy.env"
# Parts that a configuration may lack.
_EMPTY = {"head": "", "tail": "", "secret_field": "", "secret_note": "", "server_names": "", "server_aliases": ""}


def configuration(wanted: ProxyOptions, *, command: str = "") -> dict[str, str]:
    """The files of a configuration: path -> text. The first is the one to give to the proxy.

    Arguments: `command`, the arguments of the command line, for the first line of the file.

    Raises `ConfigurationError`.

    Example: `configuration(Wanted(proxy="caddy"))["Caddyfile"]`
    """
    here = dict(_texts(_TEMPLATES / wanted.proxy))
    chosen = _choices(wanted)
    values = _values(wanted, command)
    line = here.pop("deleted")
    values["deleted"] = "\n".join(_filled(line, {"name": name}) for name in _deleted(wanted))
    # Parts may name parts: the aliases within Apache's names and the words within Envoy's fields come first.
    for name in sorted(here, key=lambda each: not each.startswith(("words", "server_aliases"))):
        part, _, which = name.partition(".")
        if which in chosen:
            values[part] = _filled(here[name], values)
    texts = {}
    for name in sorted(here, key=lambda each: (each.count("."), each not in _FIRST, each)):
        if name.endswith(".template"):
            file, choice = _file_of(name)
            if choice is None or choice in chosen:
                texts[file] = _filled(here[name], values).rstrip("\n") + "\n"
    if wanted.secret:
        environment = _filled((_TEMPLATES / "application.env").read_text("utf-8"), values)
        texts[APPLICATION_ENVIRONMENT] = environment
        if PROXIES[wanted.proxy].environment:
            texts[PROXY_ENVIRONMENT] = environment.replace("application's service", "proxy's service")
    return texts


# The proxy starts with these, and reads the other files of its configuration from there.
_FIRST = frozenset({"traefik.yml.template", "Caddyfile.template"})
_FILE_CHOICES = ("idiomatic", "rfc9440", "secret")


def _choices(wanted: ProxyOptions) -> set[str]:
    named = wanted.server_names
    return {
        wanted.form,
        wanted.mode,
        "unix" if wanted.socket else "tcp",
        "named" if named else "nameless",
        *(["several"] if len(named) > 1 else []),
        *(["secret"] if wanted.secret else []),
    }


def _texts(folder: Traversable, within: str = "") -> Iterator[tuple[str, str]]:
    for each in folder.iterdir():
        if each.is_dir():
            yield from _texts(each, f"{within}{each.name}/")
        else:
            yield within + each.name, each.read_text("utf-8").rstrip("\n")


def _deleted(wanted: ProxyOptions) -> list[str]:
    proxy = PROXIES[wanted.proxy]
    if not proxy.spelled_out:
        return sorted(KNOWN_HEADERS - proxy.kept[wanted.form])
    names = sorted(KNOWN_HEADERS | ({wanted.secret_header.lower()} if wanted.secret_header else set()))
    parts = (re.split("(-)", name) for name in names)
    return ["".join(each) for name in parts for each in product(*(("-", "_") if x == "-" else (x,) for x in name))]


def _file_of(template: str) -> tuple[str, str | None]:
    """The file that a template makes, and the choice that it is for."""
    name = template.removesuffix(".template")
    for choice in _FILE_CHOICES:
        if name.endswith(f".{choice}"):
            return name.removesuffix(f".{choice}"), choice
    return name, None


def _values(wanted: ProxyOptions, command: str) -> dict[str, str]:
    listen, listen_port = endpoint("listen", wanted.listen)
    upstream, upstream_port = ("", "") if wanted.socket else endpoint("upstream", wanted.upstream)
    values = {
        "listen": wanted.listen if listen else {"haproxy": f":{listen_port}"}.get(wanted.proxy, listen_port),
        "upstream": wanted.upstream,
        "socket": wanted.socket or "",
        "listen_host": listen.strip("[]") or "0.0.0.0",  # noqa: S104 (the address that the operator asked for)
        "listen_port": listen_port,
        "upstream_host": upstream.strip("[]"),
        "upstream_port": upstream_port,
        "ca": wanted.ca,
        "certificate": wanted.certificate,
        "key": wanted.key,
        "secret_header": wanted.secret_header or "",
        "secret": wanted.secret or "",
        "secret_variable": SECRET_VARIABLE,
        "secret_path": wanted.folder,
        "source": wanted.source(),
        "class": wanted.source_class,
        "command": command or wanted.proxy,
        "imports": "    import os" if wanted.secret else "",
        "vhost": wanted.listen if listen else f"*:{listen_port}",
        "caddy_bind": f"\tbind {listen.strip('[]')}" if listen else "",
        "envoy_discovery": "STATIC" if wanted.socket or is_address(upstream.strip("[]")) else "STRICT_DNS",
    }
    if wanted.proxy == "traefik" and not listen:
        values["listen"] = f":{listen_port}"
    values |= _names(wanted, listen_port)
    if wanted.secret:
        note = (_TEMPLATES / "secret_note.secret").read_text("utf-8").rstrip("\n")
        values["proxy_secret_note"] = _PROXY_NOTES[PROXIES[wanted.proxy].environment]
        values["secret_note"] = _filled(note, values)
    values = _EMPTY | values
    beside = _filled((_TEMPLATES / "beside.txt").read_text("utf-8").rstrip("\n"), values)
    values["beside"] = "\n".join(f"# {line}".rstrip() for line in beside.splitlines())
    return values


# Whether the proxy reads its secret from the environment -> what the operator must know.
_PROXY_NOTES = {True: f"Start the proxy with the environment of {PROXY_ENVIRONMENT}.", False: ""}


def _names(wanted: ProxyOptions, port: str) -> dict[str, str]:
    """The server names as each proxy writes them."""
    names = wanted.server_names
    separator = {"envoy": ", "}.get(wanted.proxy, " ")
    return {
        "names": separator.join(names),
        "first_name": names[0] if names else "",
        "further_names": " ".join(names[1:]),
        "sites": ", ".join(f"https://{name}:{port}" for name in names or ("",)),
        "rule": " || ".join(f"Host(`{name}`)" for name in names) or "PathPrefix(`/`)",
        "router_tls": "{options: application}" if names else "{}",
        "middlewares": ", ".join(
            ["without-client-certificates", "client-certificate", *(["proxy-secret"] if wanted.secret else [])]
        ),
    }


class _Text(Template):
    """`@@{name}`: no proxy's own syntax uses this."""

    delimiter = "@@"


# A line that is one part and nothing else.
_ALONE = re.compile(r"^@@\{(\w+)\}\n", re.MULTILINE)


def _filled(text: str, values: Mapping[str, str]) -> str:
    """The text with its parts in place. A line that is a part alone is dropped if that part is empty."""
    return _Text(_ALONE.sub(lambda line: line[0] if values[line[1]] else "", text)).substitute(values)
