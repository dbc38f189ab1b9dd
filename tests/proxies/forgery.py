"""The forms in which a client can try to speak as the proxy does, each as the lines of one request.

Section 1c of the reference: exact name, other case, underscore, dot, twice, a blank after the name, `Connection` that
names the proxy's own fields, a folded line, trailer fields.
"""

from dataclasses import dataclass, field
from typing import Any

from mtls_middleware.sources.vendors import KNOWN_HEADERS
from tests.proxies import matrix
from tests.proxies.client import Field


@dataclass(frozen=True)
class Request:
    """Fields and trailer fields to send beside the usual ones."""

    fields: list[Field] = field(default_factory=list)
    trailers: list[Field] | None = None
    keep_case: bool = False

    @property
    def lines(self) -> list[bytes]:
        return [name + b": " + value for name, value in self.fields]

    @property
    def for_http2(self) -> list[Field]:
        """HTTP/2 has lower case alone: what is sent otherwise fails for that, and would show nothing else."""
        return self.fields if self.keep_case else [(name.lower(), value) for name, value in self.fields]

    @property
    def trailer_lines(self) -> list[bytes] | None:
        return None if self.trailers is None else [name + b": " + value for name, value in self.trailers]


def forged() -> list[Field]:
    """What each source would take for the victim's certificate, verified."""
    victim = matrix.certificate("victim")
    nginx, standard = victim.as_nginx(), victim.as_client_cert()
    base64 = standard["Client-Cert"].strip(":")
    xfcc = f'Cert="{nginx["X-SSL-Client-Cert"]}"'
    names = {
        "mtlsclientcert": base64,
        "mtlsclientverify": "SUCCESS",
        "x-ssl-client-cert": base64,
        "x-ssl-client-verify": "SUCCESS",
        "client-cert": standard["Client-Cert"],
        "x-forwarded-client-cert": xfcc,
        "x-forwarded-tls-client-cert": base64,
    }
    return [(name.encode(), value.encode()) for name, value in names.items()]


def escaped() -> list[Field]:
    """The same in the encoding of nginx and Apache, whose field has the name of others'."""
    value = matrix.certificate("victim").as_nginx()["X-SSL-Client-Cert"].encode()
    names = ((b"mtlsclientcert", b"mtlsclientverify"), (b"x-ssl-client-cert", b"x-ssl-client-verify"))
    return [field for cert, verify in names for field in ((cert, value), (verify, b"SUCCESS"))]


def renamed(fields: list[Field], dash: bytes) -> list[Field]:
    return [(name.replace(b"-", dash), value) for name, value in fields]


def mixed(fields: list[Field]) -> list[Field]:
    """The first dash alone, then the last alone: spellings that a short list forgets."""
    first = [(name.replace(b"-", b"_", 1), value) for name, value in fields]
    return [*first, *((b"_".join(name.rsplit(b"-", 1)), value) for name, value in fields)]


def requests() -> dict[str, Request]:
    """Form -> request, for HTTP/1.1."""
    fields, pem = forged(), escaped()
    connection = b", ".join([b"keep-alive", *(name for name, _ in fields)])
    return {
        "exact name": Request(fields),
        "exact name, percent-encoded": Request(pem),
        "other case": Request([(name.upper(), value) for name, value in fields], keep_case=True),
        "underscore": Request(renamed(fields, b"_")),
        "underscore, percent-encoded": Request(renamed(pem, b"_")),
        "one underscore": Request(mixed(fields)),
        "dot": Request(renamed(fields, b".")),
        "twice": Request([*fields, *fields]),
        "blank after name": Request([(name + b" ", value) for name, value in fields]),
        "Connection list": Request([(b"Connection", connection)]),
        "Connection list, exact name": Request([(b"Connection", connection), *fields]),
        "folded line": Request([(b"x-harmless", b"1\r\n x-ssl-client-verify: SUCCESS"), *fields[:1]]),
        "trailers": Request([], fields),
        "trailers, percent-encoded": Request([], pem),
        "trailers, announced": Request([(b"TE", b"trailers"), (b"Trailer", b"x-ssl-client-cert")], pem),
    }


def guesses() -> dict[str, Request]:
    """Form -> request with a secret of the client's own, in the forms above that make sense for it."""
    fields = [(b"mtlsproxysecret", b"guess-of-the-client")]
    split = [(name, b"guess-of-the-client") for name in (b"mtls-proxy-secret", b"mtls-proxysecret")]
    return {
        "exact name": Request(fields),
        "other case": Request([(name.upper(), value) for name, value in fields], keep_case=True),
        "dashes": Request(split),
        "underscore": Request(renamed(split, b"_")),
        "twice": Request([*fields, *fields]),
        "Connection list": Request([(b"Connection", b"keep-alive, mtlsproxysecret")]),
        "Connection list, exact name": Request([(b"Connection", b"keep-alive, mtlsproxysecret"), *fields]),
        "trailers": Request([], fields),
    }


def known_headers(spelling: bytes) -> list[list[Field]]:
    """Every name that somebody's proxy uses, in loads of thirty: more fields than that are refused by some."""
    fields = [(name.encode().replace(b"-", spelling), b"forged") for name in sorted(KNOWN_HEADERS)]
    return [fields[start : start + 30] for start in range(0, len(fields), 30)]


def arrived(proxy: str, report: Any) -> list[list[str]]:
    """What arrived of fields that speak of client certificates, however they are spelled."""
    # Apache lets dots through, which no server folds.
    fold = str.maketrans("_", "-") if proxy == "apache" else str.maketrans("_.", "--")
    fields = ([name.lower(), value] for name, value in report["arrived"])
    return sorted([name, value] for name, value in fields if name.translate(fold) in KNOWN_HEADERS)
