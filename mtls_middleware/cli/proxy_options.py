"""Checks the options of a proxy configuration.

No value may contain characters with a meaning in a configuration file.
"""

import re
from dataclasses import dataclass, field
from ipaddress import ip_address

from mtls_middleware.cli.proxies import MODES, PROXIES, SECRET, Form, Mode
from mtls_middleware.errors import ConfigurationError
from mtls_middleware.sources.vendors import KNOWN_HEADERS

# The environment variable that contains the shared secret. A command-line argument would be visible to every user.
SECRET_VARIABLE = "MTLS_PROXY_SECRET"  # noqa: S105 (the name of a variable)

# Values are written to a configuration without escaping, so they must not contain spaces, quotes, braces or line ends.
_PATH = re.compile(r"[A-Za-z0-9._/+:@-]+")
_FOLDER = re.compile(r"/([A-Za-z0-9._/+:@-]*/)?")
_ENDPOINT = re.compile(r"(?P<host>[A-Za-z0-9.-]*|\[[0-9A-Fa-f:.]+\]):(?P<port>[0-9]{1,5})")
# Matches a path without ":", which would end the path in nginx, and with at most 107 octets, the limit of a socket
# address.
_SOCKET = re.compile(r"unix:(?P<path>/[A-Za-z0-9._/+@-]{1,106})")
# The URL of an OCSP responder. nginx and Apache speak only HTTP to it: the response is signed (RFC 6960 4.2.1).
_RESPONDER = re.compile(r"http://([A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?(/[A-Za-z0-9._~/-]*)?")
_REVOCATION = {"crl": "revocation lists", "ocsp": "client certificates by OCSP"}
_IN_APPLICATION = {"crl": "RevocationLists(...)", "ocsp": "OCSP(responders=...)"}
# The names of header fields that no proxy interprets itself. Proxies interpret Host and Connection, for example.
_SECRET_HEADER = re.compile(r"X(-[A-Za-z0-9]+)+|Mtls[A-Za-z0-9]+", re.IGNORECASE)
# Matches a host name (RFC 1123 2.1). An IP address is rejected, because clients send no SNI for it (RFC 6066 3).
_SERVER_NAME = re.compile(r"(?!.*\.[0-9]+$)[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*")
# A secret in hex, base64 or base64url. "=" is allowed only at the end, because Apache evaluates a value that begins
# with "expr=".
_SECRET = re.compile(r"[A-Za-z0-9._~+/-]{16,256}={0,2}")


@dataclass(frozen=True, kw_only=True)  # without `slots=True`, because `proxy_config` reads the defaults from the class
class ProxyOptions:
    """The options of a proxy configuration. Raises `ConfigurationError` for an invalid value.

    Attributes:
        proxy: a name in `PROXIES`.
        listen: where the proxy accepts TLS connections, `address:port` or `:port`.
        upstream: the address of the application, `host:port`, or `unix:/path` for a unix socket.
        ca: the PEM file with the CAs of client certificates.
        crl: the PEM file with the revocation lists of all CAs of client certificates, or `None`.
        ocsp: the URL of the OCSP responder that the proxy asks about client certificates, or `None`.
        certificate, key: the PEM files with the certificate and the key of the server.
        mode: `required` rejects clients without a valid certificate. `optional` also accepts clients without a
            certificate. `untrusted` accepts every client, even if its certificate does not verify.
        form: `idiomatic` (the proxy's usual header fields) or `rfc9440` (the field `Client-Cert`).
        server_names: the host names of this server. Required if other servers listen on the same address.
        proxy_address: the address or network of the proxy, as the application sees it. If `None`, and the host of
            `upstream` is a loopback address, this address is used.
        secret_header: the name of the header with the shared secret, `Mtls...` or `X-...`. If `None`, the proxy sends
            no secret.
        secret: the shared secret, 16 to 256 characters of hex, base64 or base64url. Required with `secret_header`.
        folder: the folder in which the proxy finds the file with the secret, as an absolute path that ends in `/`.
            If empty, the proxy uses its default folder (nginx: the folder of nginx.conf, Apache: `ServerRoot`).

    Example: `ProxyOptions(proxy="nginx", upstream="127.0.0.1:8000", ca="/etc/ssl/ca.pem", certificate=..., key=...)`
    """

    proxy: str
    listen: str = ":443"
    upstream: str = "127.0.0.1:8000"
    ca: str = "/etc/ssl/clients-ca.pem"
    certificate: str = "/etc/ssl/server.pem"
    key: str = "/etc/ssl/server.pem.key"
    mode: Mode = "optional"
    form: Form = "idiomatic"
    server_names: tuple[str, ...] = ()
    proxy_address: str | None = None
    secret_header: str | None = None
    secret: str | None = field(default=None, repr=False)
    folder: str = ""
    crl: str | None = None
    ocsp: str | None = None

    def __post_init__(self) -> None:
        known = PROXIES.get(self.proxy)
        if known is None:
            raise ConfigurationError(f"proxy {self.proxy!r}: expected one of {', '.join(PROXIES)}")
        if self.mode not in MODES:
            raise ConfigurationError(f"mode {self.mode!r}: expected one of {', '.join(MODES)}")
        if self.form not in known.source:
            raise ConfigurationError(f"form {self.form!r}: expected one of {', '.join(known.source)}")
        endpoint("listen", self.listen)
        for name in self.server_names:
            if len(name) > 253 or not _SERVER_NAME.fullmatch(name):
                raise ConfigurationError(
                    f"server name {name!r}: expected a host name in lower case, for example api.example.com"
                )
        self._check_paths()
        self._check_revocation()
        self._check_upstream()
        self._check_secret()

    def _check_paths(self) -> None:
        for option in ("ca", "certificate", "key"):
            if not _PATH.fullmatch(path := getattr(self, option)):
                raise ConfigurationError(
                    f"{option} {path!r}: expected a path of letters, digits and ._/+:@-, for example "
                    f"/etc/ssl/{option}.pem"
                )
        if self.proxy == "haproxy" and self.key not in (self.certificate, f"{self.certificate}.key"):
            raise ConfigurationError(
                f"key {self.key!r}: expected {self.certificate} or {self.certificate}.key, because HAProxy reads "
                "the key only from these files"
            )

    def _check_revocation(self) -> None:
        for option, able in (("crl", PROXIES[self.proxy].crl), ("ocsp", PROXIES[self.proxy].ocsp)):
            value = getattr(self, option)
            if value is None:
                continue
            if not able:
                others = ", ".join(name for name, row in PROXIES.items() if getattr(row, option))
                raise ConfigurationError(
                    f"{option} {value!r}: {self.proxy} cannot check {_REVOCATION[option]}; {others} can. Or "
                    f"let the application check it: TrustStore(..., revocation={_IN_APPLICATION[option]})"
                )
            if self.mode == "untrusted":
                raise ConfigurationError(
                    f"{option} {value!r} with mode 'untrusted': this mode accepts revoked certificates; expected mode "
                    "'optional' or 'required'"
                )
        if self.crl is not None and not _PATH.fullmatch(self.crl):
            raise ConfigurationError(
                f"crl {self.crl!r}: expected a path of letters, digits and ._/+:@-, for example /etc/ssl/crl.pem"
            )
        if self.ocsp is not None and not _RESPONDER.fullmatch(self.ocsp):
            raise ConfigurationError(
                f"ocsp {self.ocsp!r}: expected a URL that begins with http://, of letters, digits and ._~/:-, for "
                "example http://ocsp.example.com/"
            )

    def _check_upstream(self) -> None:
        if not self.upstream.startswith("unix:"):
            if not endpoint("upstream", self.upstream)[0]:
                raise ConfigurationError(
                    f"upstream {self.upstream!r}: expected a host and a port, for example 127.0.0.1:8000"
                )
        elif not PROXIES[self.proxy].unix:
            raise ConfigurationError(
                f"upstream {self.upstream!r}: {self.proxy} cannot use unix sockets; expected host and port, "
                "for example 127.0.0.1:8000"
            )
        elif self.socket is None:
            raise ConfigurationError(
                f"upstream {self.upstream!r}: expected an absolute path of letters, digits and ._/+@-, of at most 107 "
                "characters, for example unix:/run/app.sock"
            )
        elif self.proxy_address is not None:
            raise ConfigurationError(
                f"proxy address {self.proxy_address!r}: leave it out, because a unix socket has no peer address"
            )

    def _check_secret(self) -> None:
        header = self.secret_header
        if self.folder and not _FOLDER.fullmatch(self.folder):
            raise ConfigurationError(
                f"folder {self.folder!r}: expected a path of letters, digits and ._/+:@-, for example /etc/nginx/"
            )
        if header is None:
            if self.secret is not None:
                raise ConfigurationError(
                    f"secret is given without secret_header: expected both, for example secret_header={SECRET!r}"
                )
            return
        if not _SECRET_HEADER.fullmatch(header) or len(header) > 40 or header.lower() in KNOWN_HEADERS:
            raise ConfigurationError(
                f"secret header {header!r}: expected at most 40 letters, digits and hyphens that begin with Mtls or "
                f"X-, and not the name of a certificate header, for example {SECRET}"
            )
        if self.secret is None:
            raise ConfigurationError(
                f"the secret for {header} is missing: set the environment variable {SECRET_VARIABLE}, for example to "
                "the output of: openssl rand -hex 32"
            )
        if not _SECRET.fullmatch(self.secret):  # the message must not contain the secret
            raise ConfigurationError(
                f"the secret in {SECRET_VARIABLE}: expected 16 to 256 letters, digits and ._~+/-, with = only at the "
                "end, for example the output of: openssl rand -hex 32"
            )

    @property
    def socket(self) -> str | None:
        """The path of the application's unix socket, or `None`."""
        match = _SOCKET.fullmatch(self.upstream)
        return match and match["path"]

    @property
    def source_class(self) -> str:
        """The name of the matching class in `mtls_middleware.sources`."""
        return PROXIES[self.proxy].source[self.form][0]

    def source(self) -> str:
        """Return Python code that creates the matching source.

        Raises `ConfigurationError` if neither the address of the proxy nor the secret is known.

        Example: `Nginx(trusted_proxies=["127.0.0.1"], certificate_header="MtlsClientCert", ...)`
        """
        proxy, trusted = PROXIES[self.proxy], self._trusted()
        fields = proxy.source[self.form][1]
        keywords = [] if trusted is None else [f'trusted_proxies=["{trusted}"]']
        if self.secret_header:
            keywords.append(f'shared_secret=("{self.secret_header}", os.environ["{SECRET_VARIABLE}"].split(","))')
        keywords += [f'{name}="{value}"' for name, value in fields.items()]
        if self.form in proxy.wordless and self.mode != "untrusted":
            keywords.append("verified_by_proxy=True")
        if "certificate_header" not in fields or "-" in (self.secret_header or ""):
            keywords.append("proxy_deletes_underscores=True")
        return f"{self.source_class}({', '.join(keywords)})"

    def _trusted(self) -> str | None:
        """Return the peer address that the application trusts. `None` if it is unknown and a secret is given."""
        address = self.proxy_address
        if self.socket:
            return "unix"
        if address is None:
            host = endpoint("upstream", self.upstream)[0].strip("[]")
            if host != "localhost" and not (is_address(host) and ip_address(host).is_loopback):
                if self.secret_header:
                    return None
                raise ConfigurationError(
                    f"upstream {self.upstream!r} is on another machine: give the address of the proxy as the "
                    "application sees it, for example --proxy-address 10.0.0.7, or give a --secret-header"
                )
            address = "127.0.0.1" if host == "localhost" else host
        if not re.fullmatch(r"[0-9A-Fa-f.:/]+", address):
            raise ConfigurationError(f"proxy address {address!r}: expected an address or network, for example 10.0.0.7")
        return address


def endpoint(option: str, text: str) -> tuple[str, str]:
    """Split `host:port` or `:port` into host and port. Raises `ConfigurationError`, with `option` in the message.

    Example: `endpoint("listen", "[::1]:8443") == ("[::1]", "8443")`
    """
    match = _ENDPOINT.fullmatch(text)
    if match is None or not 0 < int(match["port"]) < 65536:
        raise ConfigurationError(f"{option} {text!r}: expected host:port, for example 127.0.0.1:8000 or [::1]:8000")
    return match["host"], match["port"]


def is_address(host: str) -> bool:
    """Return whether `host` is an IP address and not a name. Example: `is_address("::1")`"""
    try:
        ip_address(host)
    except ValueError:
        return False
    return True
