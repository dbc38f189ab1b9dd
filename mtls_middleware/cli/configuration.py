"""What a proxy's configuration is made of: the templates of its folder, filled in. Vendor facts are in those files.

Must never know: the command line, or where the text goes.

A folder has `<file>.template` for each file of the configuration (`<file>.<form>.template` where one form alone needs
it; folders within are the configuration's own), `deleted` for the line that deletes one header, and parts that the
templates name as `@@{part}`: `<part>.<choice>`, where the choice is a form, a mode, `tcp` or `unix` (the way to the
application), or `secret` (where there is one).
"""

import re
from collections.abc import Iterator, Mapping
from importlib.resources import files
from importlib.resources.abc import Traversable
from itertools import product
from string import Template

from mtls_middleware.cli.proxies import FORMS, PROXIES
from mtls_middleware.cli.wanted import Wanted, endpoint, is_address
from mtls_middleware.sources.vendors import KNOWN_HEADERS

_TEMPLATES = files("mtls_middleware.cli") / "templates"
# Parts that a configuration may do without.
_EMPTY = {"head": "", "tail": "", "secret_field": ""}


def configuration(wanted: Wanted, *, command: str = "") -> dict[str, str]:
    """The files of a configuration: path -> text; the first is the one to give to the proxy.

    Arguments: `command`, what stands in the first line as the arguments that made it.

    Raises `ConfigurationError`.

    Example: `configuration(Wanted(proxy="caddy"))["Caddyfile"]`
    """
    here = dict(_texts(_TEMPLATES / wanted.proxy))
    values = _EMPTY | _values(wanted, command)
    line = here.pop("deleted")
    values["deleted"] = "\n".join(_filled(line, {"name": name}) for name in _deleted(wanted))
    chosen = {wanted.form, wanted.mode, "unix" if wanted.socket else "tcp", "secret" if wanted.secret else ""}
    # Parts may name parts: the words inside Envoy's headers come first.
    for name in sorted(here, key=lambda each: not each.startswith("words")):
        part, _, which = name.partition(".")
        if which in chosen:
            values[part] = _filled(here[name], values)
    texts = {}
    for name in sorted(here, key=lambda each: ("." + wanted.form in each, each != "traefik.yml.template", each)):
        if name.endswith(".template"):
            file, form = _file_of(name)
            if form in (None, wanted.form):
                texts[file] = _filled(here[name], values).rstrip("\n") + "\n"
    return texts


def _texts(folder: Traversable, within: str = "") -> Iterator[tuple[str, str]]:
    for each in folder.iterdir():
        if each.is_dir():
            yield from _texts(each, f"{within}{each.name}/")
        else:
            yield within + each.name, each.read_text("utf-8").rstrip("\n")


def _deleted(wanted: Wanted) -> list[str]:
    proxy = PROXIES[wanted.proxy]
    if not proxy.spelled_out:
        return sorted(KNOWN_HEADERS - proxy.kept[wanted.form])
    names = sorted(KNOWN_HEADERS | ({wanted.secret_header.lower()} if wanted.secret_header else set()))
    parts = (re.split("(-)", name) for name in names)
    return ["".join(each) for name in parts for each in product(*(("-", "_") if x == "-" else (x,) for x in name))]


def _file_of(template: str) -> tuple[str, str | None]:
    name = template.removesuffix(".template")
    for form in FORMS:
        if name.endswith(f".{form}"):
            return name.removesuffix(f".{form}"), form
    return name, None


def _values(wanted: Wanted, command: str) -> dict[str, str]:
    listen, listen_port = endpoint("listen", wanted.listen)
    upstream, upstream_port = ("", "") if wanted.socket else endpoint("upstream", wanted.upstream)
    values = {
        "listen": wanted.listen if listen else {"haproxy": f":{listen_port}"}.get(wanted.proxy, listen_port),
        "upstream": wanted.upstream,
        "socket": wanted.socket or "",
        "listen_host": listen.strip("[]") or "0.0.0.0",  # noqa: S104 (a server's address, asked for)
        "listen_port": listen_port,
        "upstream_host": upstream.strip("[]"),
        "upstream_port": upstream_port,
        "ca": wanted.ca,
        "certificate": wanted.certificate,
        "key": wanted.key,
        "secret_header": wanted.secret_header or "",
        "secret": wanted.secret or "",
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
    beside = _filled((_TEMPLATES / "beside.txt").read_text("utf-8").rstrip("\n"), values)
    values["beside"] = "\n".join(f"# {line}".rstrip() for line in beside.splitlines())
    return values


class _Text(Template):
    """`@@{name}`: what no proxy's own syntax uses."""

    delimiter = "@@"


# A line that is one part and nothing else.
_ALONE = re.compile(r"^@@\{(\w+)\}\n", re.MULTILINE)


def _filled(text: str, values: Mapping[str, str]) -> str:
    """The text with its parts in place; a line that is a part alone goes where that part is empty."""
    return _Text(_ALONE.sub(lambda line: line[0] if values[line[1]] else "", text)).substitute(values)
