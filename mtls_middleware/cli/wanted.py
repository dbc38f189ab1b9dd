"""What a configuration is for, checked: nothing gets past here that would be read as syntax in some proxy's file.

Must never know: what a proxy's configuration looks like, or where the secret came from.
"""

import re
from dataclasses import dataclass, field
from ipaddress import ip_address

from mtls_middleware.cli.proxies import MODES, PROXIES, Form, Mode
from mtls_middleware.errors import ConfigurationError
from mtls_middleware.sources.vendors import KNOWN_HEADERS

# The environment variable of the shared secret: never an argument, which every user of the machine can read.
SECRET_VARIABLE = "MTLS_PROXY_SECRET"  # noqa: S105 (its name)

# What stands in a configuration as it is: no blank, quote, brace or line end, whatever the syntax around it.
_PATH = re.compile(r"[A-Za-z0-9._/+:@-]+")
_ENDPOINT = re.compile(r"(?P<host>[A-Za-z0-9.-]*|\[[0-9A-Fa-f:.]+\]):(?P<port>[0-9]{1,5})")
# No ":", where nginx would end the path, and no more octets than a socket's address has room for.
_SOCKET = re.compile(r"unix:(?P<path>/[A-Za-z0-9._/+@-]{1,106})")
# X-: a name that no proxy reads for itself, as it does Host or Connection.
_SECRET_HEADER = re.compile(r"X(-[A-Za-z0-9]+)+", re.IGNORECASE)
# Hex, base64 and base64url. "=" at the end alone: to Apache a value that begins with "expr=" is an expression.
_SECRET = re.compile(r"[A-Za-z0-9._~+/-]{16,256}={0,2}")


@dataclass(frozen=True, kw_only=True)  # no slots: the defaults are read from the class
class Wanted:
    """What a configuration is for. Raises `ConfigurationError` for what cannot stand in one.

    Attributes:
        proxy: a name in `PROXIES`.
        listen: `address:port` or `:port` to take TLS connections on.
        upstream: where the application is: `host:port`, or `unix:/path`, its socket on this machine.
        ca, certificate, key: PEM files: who signs client certificates, the server's certificate, its key.
        mode: clients without acceptable certificate are refused (`required`); those without any are let through
            (`optional`); those with one that does not verify, too (`untrusted`).
        form: the proxy's own header, or `Client-Cert` of RFC 9440.
        proxy_address: the address or network from which the application sees the proxy; `None`: the upstream's own,
            where that is a loopback address.
        secret_header: the field by which the proxy proves to the application that it is the proxy, `X-...`.
        secret: its value, 16 to 256 characters of hex, base64 or base64url; each stands only with the other.

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
    secret_header: str | None = None
    secret: str | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        known = PROXIES.get(self.proxy)
        if known is None:
            raise ConfigurationError(f"proxy {self.proxy!r}: one of {', '.join(PROXIES)}")
        if self.mode not in MODES:
            raise ConfigurationError(f"mode {self.mode!r}: one of {', '.join(MODES)}")
        if self.form not in known.source:
            raise ConfigurationError(f"form {self.form!r}: {self.proxy} has {', '.join(known.source)}")
        endpoint("listen", self.listen)
        self._check_paths()
        self._check_upstream()
        self._check_secret()

    def _check_paths(self) -> None:
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

    def _check_upstream(self) -> None:
        if not self.upstream.startswith("unix:"):
            if not endpoint("upstream", self.upstream)[0]:
                raise ConfigurationError(f"upstream {self.upstream!r} has no host, expected for example 127.0.0.1:8000")
        elif not PROXIES[self.proxy].unix:
            raise ConfigurationError(
                f"upstream {self.upstream!r}: {self.proxy} has no unix sockets, expected for example 127.0.0.1:8000"
            )
        elif self.socket is None:
            raise ConfigurationError(
                f"upstream {self.upstream!r}: expected a whole path of letters, digits and ._/+@-, of at most 107 "
                "characters, for example unix:/run/app.sock"
            )
        elif self.proxy_address is not None:
            raise ConfigurationError(
                f"proxy address {self.proxy_address!r}: over a unix socket the application sees none, leave it out"
            )

    def _check_secret(self) -> None:
        header = self.secret_header
        if header is None:
            if self.secret is not None:
                raise ConfigurationError("a secret has no header, expected for example X-Proxy-Secret")
            return
        if not _SECRET_HEADER.fullmatch(header) or len(header) > 40 or header.lower() in KNOWN_HEADERS:
            raise ConfigurationError(
                f"secret header {header!r}: a name of letters, digits and dashes that begins with X- and is no "
                "certificate header, of at most 40 characters, such as X-Proxy-Secret"
            )
        if self.secret is None:
            raise ConfigurationError(
                f"there is no secret for {header}: set the environment variable {SECRET_VARIABLE}, for example to what "
                "this prints: openssl rand -hex 32"
            )
        if not _SECRET.fullmatch(self.secret):  # whose value is in no message
            raise ConfigurationError(
                f"the secret in {SECRET_VARIABLE} needs 16 to 256 characters, letters, digits and ._~+/- alone, with = "
                "at the end at most, for example what this prints: openssl rand -hex 32"
            )

    @property
    def socket(self) -> str | None:
        """The path of the application's unix socket; `None` where it is none."""
        found = _SOCKET.fullmatch(self.upstream)
        return found and found["path"]

    @property
    def source_class(self) -> str:
        """The name of the class in `mtls_middleware.sources`."""
        return PROXIES[self.proxy].source[self.form][0]

    def source(self) -> str:
        """The source object that fits, as Python text. Raises `ConfigurationError` where nobody can be named to trust.

        Example: `Nginx(trusted_proxies=["127.0.0.1"])`
        """
        proxy, trusted = PROXIES[self.proxy], self._trusted()
        keywords = [] if trusted is None else [f'trusted_proxies=["{trusted}"]']
        if self.secret_header:
            keywords.append(f'shared_secret=("{self.secret_header}", os.environ["{SECRET_VARIABLE}"])')
        keywords += [f'{name}="{value}"' for name, value in proxy.source[self.form][1].items()]
        if self.form in proxy.wordless and self.mode != "untrusted":
            keywords.append("verified_by_proxy=True")
        return f"{self.source_class}({', '.join(keywords)})"

    def _trusted(self) -> str | None:
        """Whom the application sees; `None` where nobody can say it, and a secret proves it alone."""
        address = self.proxy_address
        if self.socket:
            return "unix"
        if address is None:
            host = endpoint("upstream", self.upstream)[0].strip("[]")
            if host != "localhost" and not (is_address(host) and ip_address(host).is_loopback):
                if self.secret_header:
                    return None
                raise ConfigurationError(
                    f"upstream {self.upstream!r} is on another machine: say which address the application sees the "
                    "proxy come from, for example --proxy-address 10.0.0.7, or give a --secret-header"
                )
            address = "127.0.0.1" if host == "localhost" else host
        if not re.fullmatch(r"[0-9A-Fa-f.:/]+", address):
            raise ConfigurationError(f"proxy address {address!r}: an address or network such as 10.0.0.7")
        return address


def endpoint(option: str, text: str) -> tuple[str, str]:
    """Host (which may be missing) and port. Raises `ConfigurationError`, which calls the text by `option`.

    Example: `endpoint("listen", "[::1]:8443") == ("[::1]", "8443")`
    """
    found = _ENDPOINT.fullmatch(text)
    if found is None or not 0 < int(found["port"]) < 65536:
        raise ConfigurationError(f"{option} {text!r}: expected host:port, for example 127.0.0.1:8000 or [::1]:8000")
    return found["host"], found["port"]


def is_address(host: str) -> bool:
    """Whether it is an address, and no name. Example: `is_address("::1")`"""
    try:
        ip_address(host)
    except ValueError:
        return False
    return True
