"""What a proxy's configuration is made of: the templates of its folder, filled in. Vendor facts are in those files.

Must never know: the command line, or where the text goes.

A folder has `<file>.template` for each file of the configuration (`<file>.<form>.template` where one form alone needs
it), `deleted` for the line that deletes one header, and parts named `<part>.<form>` or `<part>.<mode>` that the
templates name as `@@{part}`.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from ipaddress import ip_address
from itertools import product
from string import Template
from typing import Any, Literal

from mtls_middleware.errors import ConfigurationError
from mtls_middleware.sources.vendors import KNOWN_HEADERS

Form = Literal["idiomatic", "rfc9440"]
Mode = Literal["required", "optional", "untrusted"]
FORMS: tuple[Form, ...] = ("idiomatic", "rfc9440")
MODES: tuple[Mode, ...] = ("required", "optional", "untrusted")

_TEMPLATES = files("mtls_middleware.cli") / "templates"
_WORD = "x-ssl-client-verify"
# What stands in a configuration as it is: no blank, quote, brace or line end, whatever the syntax around it.
_PATH = re.compile(r"[A-Za-z0-9._/+:@-]+")
_ENDPOINT = re.compile(r"(?P<host>[A-Za-z0-9.-]*|\[[0-9A-Fa-f:.]+\]):(?P<port>[0-9]{1,5})")


@dataclass(frozen=True, slots=True)
class Proxy:
    """One row: what of a proxy its templates cannot say.

    Attributes:
        source: form -> the source's class and the keywords that belong to this configuration, but for trust.
        kept: form -> names that the list of deletions leaves out, because the configuration sets them in that place.
        worded: whether there is a verification word; `verified_by_proxy` stands for one that is missing.
        spelled_out: names are deleted in each spelling with dashes and underscores, for want of anything shorter.
    """

    source: Mapping[Form, tuple[str, Mapping[str, object]]]
    worded: bool
    kept: Mapping[Form, frozenset[str]]
    spelled_out: bool = False


_NOTHING: Mapping[Form, frozenset[str]] = {"idiomatic": frozenset(), "rfc9440": frozenset()}
_STANDARD: tuple[str, Mapping[str, object]] = ("ClientCertHeader", {"verify_header": "X-SSL-Client-Verify"})

PROXIES = {
    "nginx": Proxy(
        {"idiomatic": ("Nginx", {}), "rfc9440": _STANDARD},
        worded=True,
        kept={"idiomatic": frozenset({_WORD, "x-ssl-client-cert"}), "rfc9440": frozenset({_WORD, "client-cert"})},
    ),
    "haproxy": Proxy(
        {"idiomatic": ("HAProxy", {"chain_header": "X-SSL-Client-Chain"}), "rfc9440": _STANDARD},
        worded=True,
        kept=_NOTHING,
    ),
    "apache": Proxy(
        {"idiomatic": ("Apache", {}), "rfc9440": _STANDARD}, worded=True, kept=_NOTHING, spelled_out=True
    ),
    "envoy": Proxy(
        {"idiomatic": ("Envoy", {"verify_header": "X-SSL-Client-Verify"}), "rfc9440": _STANDARD},
        worded=True,
        kept={
            "idiomatic": frozenset({_WORD, "x-forwarded-client-cert"}),
            "rfc9440": frozenset({_WORD, "client-cert", "client-cert-chain"}),
        },
    ),
    "traefik": Proxy({"idiomatic": ("Traefik", {})}, worded=False, kept=_NOTHING),
    "caddy": Proxy(
        {"idiomatic": ("Caddy", {}), "rfc9440": ("ClientCertHeader", {})}, worded=False, kept=_NOTHING
    ),
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)  # no slots: the defaults are read from the class
class Wanted:
    """What a configuration is for. Raises `ConfigurationError` for what cannot stand in one.

    Attributes:
        proxy: a name in `PROXIES`.
        listen: `address:port` or `:port` to take TLS connections on.
        upstream: `host:port` of the application.
        ca, certificate, key: PEM files: who signs client certificates, the server's certificate, its key.
        mode: clients without acceptable certificate are refused (`required`); those without any are let through
            (`optional`); those with one that does not verify, too (`untrusted`).
        form: the proxy's own header, or `Client-Cert` of RFC 9440.
        proxy_address: the address or network from which the application sees the proxy; `None`: the upstream's own,
            where that is a loopback address.

    Example: `Wanted(proxy="nginx", upstream="127.0.0.1:8000", ca="/etc/ssl/ca.pem", certificate=..., key=...)`
    """

    proxy: str
    listen: str = ":443"
    upstream: str = "127.0.0.1:8000"
    ca: str = "/etc/ssl/clients-ca.pem"
    certificate: str = "/etc/ssl/server.pem"
    key: str = "/etc/ssl/server.pem.key"
    mode: Mode = "optional"
    form: Form = "idiomatic"
    proxy_address: str | None = None

    def __post_init__(self) -> None:
        known = PROXIES.get(self.proxy)
        if known is None:
            raise ConfigurationError(f"proxy {self.proxy!r}: one of {', '.join(PROXIES)}")
        if self.mode not in MODES:
            raise ConfigurationError(f"mode {self.mode!r}: one of {', '.join(MODES)}")
        if self.form not in known.source:
            raise ConfigurationError(f"form {self.form!r}: {self.proxy} has {', '.join(known.source)}")
        for option in ("ca", "certificate", "key"):
            if not _PATH.fullmatch(path := getattr(self, option)):
                raise ConfigurationError(
                    f"{option} {path!r}: a path of letters, digits and ._/+:@- such as /etc/ssl/{option}.pem"
                )
        if self.proxy == "haproxy" and self.key not in (self.certificate, f"{self.certificate}.key"):
            raise ConfigurationError(
                f"key {self.key!r}: HAProxy reads the key from the certificate's own file or from "
                f"{self.certificate}.key; give one of the two"
            )
        _endpoint("listen", self.listen)
        if not _endpoint("upstream", self.upstream)[0]:
            raise ConfigurationError(f"upstream {self.upstream!r} has no host, expected for example 127.0.0.1:8000")

    @property
    def source_class(self) -> str:
        """The name of the class in `mtls_middleware.sources`."""
        return PROXIES[self.proxy].source[self.form][0]

    def source(self) -> str:
        """The source object that fits, as Python text. Raises `ConfigurationError` where nobody can be named to trust.

        Example: `Nginx(trusted_proxies=["127.0.0.1"])`
        """
        proxy = PROXIES[self.proxy]
        keywords = [f'trusted_proxies=["{self._trusted()}"]']
        keywords += [f'{name}="{value}"' for name, value in proxy.source[self.form][1].items()]
        if not proxy.worded and self.mode != "untrusted":
            keywords.append("verified_by_proxy=True")
        return f"{self.source_class}({', '.join(keywords)})"

    def _trusted(self) -> str:
        address = self.proxy_address
        if address is None:
            host = _endpoint("upstream", self.upstream)[0].strip("[]")
            if not _is_loopback(host):
                raise ConfigurationError(
                    f"upstream {self.upstream!r} is on another machine: say which address the application sees the "
                    "proxy come from, for example --proxy-address 10.0.0.7"
                )
            address = "127.0.0.1" if host == "localhost" else host
        if not re.fullmatch(r"[0-9A-Fa-f.:/]+", address):
            raise ConfigurationError(f"proxy address {address!r}: an address or network such as 10.0.0.7")
        return address


def configuration(wanted: Wanted, *, command: str = "") -> dict[str, str]:
    """The files of a configuration: name -> text; the first is the one to give to the proxy.

    Arguments: `command`, what stands in the first line as the arguments that made it.

    Raises `ConfigurationError`.

    Example: `configuration(Wanted(proxy="caddy"))["Caddyfile"]`
    """
    folder = _TEMPLATES / wanted.proxy
    here = {each.name: each.read_text("utf-8").rstrip("\n") for each in folder.iterdir()}
    values = _values(wanted, command)
    line = here.pop("deleted")
    values["deleted"] = "\n".join(_filled(line, {"name": name}) for name in _deleted(wanted))
    values |= {"head": "", "tail": ""}
    # Parts may name parts: the words inside Envoy's headers come first.
    for name in sorted(here, key=lambda each: not each.startswith("words")):
        part, _, which = name.partition(".")
        if which in (wanted.form, wanted.mode):
            values[part] = _filled(here[name], values)
    texts = {}
    for name in sorted(here, key=lambda each: ("." + wanted.form in each, each != "traefik.yml.template")):
        if name.endswith(".template"):
            file, form = _file_of(name)
            if form in (None, wanted.form):
                texts[file] = _filled(here[name], values).rstrip("\n") + "\n"
    return texts


def _deleted(wanted: Wanted) -> list[str]:
    proxy = PROXIES[wanted.proxy]
    names = sorted(KNOWN_HEADERS - proxy.kept[wanted.form])
    if not proxy.spelled_out:
        return names
    parts = (re.split("(-)", name) for name in names)
    return ["".join(each) for name in parts for each in product(*(("-", "_") if x == "-" else (x,) for x in name))]


def _file_of(template: str) -> tuple[str, str | None]:
    name = template.removesuffix(".template")
    for form in FORMS:
        if name.endswith(f".{form}"):
            return name.removesuffix(f".{form}"), form
    return name, None


def _values(wanted: Wanted, command: str) -> dict[str, str]:
    listen, listen_port = _endpoint("listen", wanted.listen)
    upstream, upstream_port = _endpoint("upstream", wanted.upstream)
    values = {
        "listen": wanted.listen if listen else {"haproxy": f":{listen_port}"}.get(wanted.proxy, listen_port),
        "upstream": wanted.upstream,
        "listen_host": listen.strip("[]") or "0.0.0.0",  # noqa: S104 (a server's address, asked for)
        "listen_port": listen_port,
        "upstream_host": upstream.strip("[]"),
        "upstream_port": upstream_port,
        "ca": wanted.ca,
        "certificate": wanted.certificate,
        "key": wanted.key,
        "source": wanted.source(),
        "class": wanted.source_class,
        "command": command or wanted.proxy,
        "vhost": wanted.listen if listen else f"*:{listen_port}",
        "caddy_bind": f"\tbind {listen.strip('[]')}" if listen else "",
        "envoy_discovery": "STATIC" if _is_address(upstream.strip("[]")) else "STRICT_DNS",
    }
    if wanted.proxy == "traefik" and not listen:
        values["listen"] = f":{listen_port}"
    beside = _filled((_TEMPLATES / "beside.txt").read_text("utf-8").rstrip("\n"), values)
    values["beside"] = "\n".join(f"# {line}".rstrip() for line in beside.splitlines())
    return values


class _Text(Template):
    """`@@{name}`: what no proxy's own syntax uses."""

    delimiter = "@@"


def _filled(text: str, values: Mapping[str, Any]) -> str:
    return _Text(text).substitute(values)


def _endpoint(option: str, text: str) -> tuple[str, str]:
    found = _ENDPOINT.fullmatch(text)
    if found is None or not 0 < int(found["port"]) < 65536:
        raise ConfigurationError(f"{option} {text!r}: expected host:port, for example 127.0.0.1:8000 or [::1]:8000")
    return found["host"], found["port"]


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def _is_loopback(host: str) -> bool:
    return host == "localhost" or (_is_address(host) and ip_address(host).is_loopback)
