"""`mtls-middleware probe URL` tries from outside whether a forged certificate header gets past an address.

The address must refuse requests without a certificate, so that a request that is not refused got in.
"""

import argparse
import json
import ssl
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Protocol
from urllib.parse import SplitResult, urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from mtls_middleware.cli import exchanges, smuggling, spoofs, tunnels
from mtls_middleware.cli.exchanges import Target
from mtls_middleware.cli.smuggling import PLAIN, Sign, Usual
from mtls_middleware.cli.spoofs import Spoof
from mtls_middleware.errors import ConfigurationError, require_extra
from mtls_middleware.names.invisible import escaped
from mtls_middleware.parser_errors import UNREADABLE

_FASTEST = 100.0  # requests a second: this is a look, not a load
# A server that lets this many attempts in a row run into the deadline is given up, so that the whole run is bounded.
_PATIENCE = 3
_LATE = "no end within the time for one exchange"
_GIVEN_UP = f"not tried: {_PATIENCE} exchanges in a row had no end"

_OVER = "not tried: the run reached its --limit"

_BEFORE = """\
making {count} attempts at {url}, {rate:g} connections a second at most; nothing is sent to another address
"""
_CONNECTIONS = """\
Attempts with half a request can disturb other clients of a vulnerable system: one of them may get 400.
Leave them out with --headers-only.
"""
_AFTER = """\
What cannot be seen from here: a request that a proxy hands on inside of a body, and whose response it drops.
Half a request shows it only if the proxy uses the same connection again, which is less likely on a busy system.
"kept out" is therefore no proof. Run "mtls-middleware doctor" with the server's command as well.
"""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one attempt got.

    Attributes:
        protocol: "HTTP/1.1" or "HTTP/2".
        certificate: whether it was made with the operator's own certificate.
        header: whose header was forged, or how the connection was attacked.
        form: how.
        answer: the statuses, or how the connection ended.
        got_in: the verdict.
        tried: `False` if the attempt was left out, or its exchange had no end in time: there is no verdict.
    """

    protocol: str
    certificate: bool
    header: str
    form: str
    answer: str
    got_in: bool
    tried: bool = True


class _Make(Protocol):
    def __call__(self, target: Target, usual: Usual, /) -> Sign:
        """Raises `OSError` and `NotSpoken`."""


@dataclass(frozen=True, slots=True)
class _Planned:
    protocol: str
    header: str
    form: str
    make: _Make


def arguments(parser: argparse.ArgumentParser) -> None:
    """Say which options the command takes."""
    parser.add_argument("url", metavar="URL", help="https address of your own that refuses without a certificate")
    parser.add_argument(
        "--victim",
        metavar="CERT",
        help="PEM file of the certificate to pretend to have; default: one that is made for this run",
    )
    parser.add_argument(
        "--certificate", metavar="CERT", help="PEM file of a certificate of yours that is refused there"
    )
    parser.add_argument("--key", help="its key; default: in the same file")
    parser.add_argument("--ca", help="PEM file of the CA that signed the server's certificate; default: the system's")
    parser.add_argument("--rate", type=float, default=20.0, help="connections a second, 100 at most; default: 20")
    parser.add_argument(
        "--timeout", type=float, default=5.0, help="seconds for one exchange, from 0.1 to 60; default: 5"
    )
    parser.add_argument("--limit", type=float, default=900.0, help="seconds for the whole run, at most; default: 900")
    parser.add_argument(
        "--headers-only",
        action="store_true",
        help="forge header fields alone; leave out upgrades, CONNECT and requests inside of bodies",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(options: argparse.Namespace) -> int:
    """Make each attempt and print what got in. Raises `ConfigurationError`.

    Returns 1 if something got in, 2 if an attempt could not be made, else 0.
    """
    url = _url(options.url)
    require_extra("h2", "probe", "probe")
    if not 0 < options.rate <= _FASTEST:
        raise ConfigurationError(f"--rate {options.rate}: more than 0, and {_FASTEST:.0f} at most")
    if not 0.1 <= options.timeout <= 60:
        raise ConfigurationError(f"--timeout {options.timeout}: from 0.1 to 60 seconds, for example --timeout 5")
    contexts = [(False, _context(options, None))]
    if options.certificate is not None:
        contexts.append((True, _context(options, options.certificate)))
    targets = {given: Target(url, context, options.timeout, 1 / options.rate) for given, context in contexts}
    plan = list(_plan(_victim(options.victim), targets[False], headers_only=options.headers_only))
    usual = {given: _usual(target, certificate=given) for given, target in targets.items()}
    count = len(plan) * len(targets)
    sys.stderr.write(_BEFORE.format(count=count, url=options.url, rate=options.rate))
    if not options.headers_only:
        sys.stderr.write(_CONNECTIONS)
    until = time.monotonic() + options.limit
    outcomes = [
        each for given, target in targets.items() for each in _outcomes(plan, target, given, usual[given], until)
    ]
    _print(outcomes, as_json=options.json)
    entered = sum(each.got_in for each in outcomes)
    sys.stderr.write(f"{entered} of {len(outcomes)} got in\n")
    if not options.headers_only:
        sys.stderr.write(_AFTER)
    untried = sum(not each.tried for each in outcomes)
    if untried:
        sys.stderr.write(f"{untried} of {len(outcomes)} have no verdict: the server did not end the exchange in time\n")
    return 1 if entered else 2 if untried else 0


def _plan(victim: x509.Certificate, target: Target, *, headers_only: bool) -> Iterator[_Planned]:
    for spoof in spoofs.over_http1(victim):
        yield _Planned("HTTP/1.1", spoof.header, spoof.form, partial(_forge, exchanges.http1, spoof))
    for spoof in spoofs.over_http2(victim):
        yield _Planned("HTTP/2", spoof.header, spoof.form, partial(_forge, exchanges.http2, spoof))
    if headers_only:
        return
    forged = spoofs.claims(victim)
    for upgrade in tunnels.upgrades():
        yield _Planned(upgrade.protocol, upgrade.kind, upgrade.form, partial(smuggling.upgrade, upgrade, forged))
    for body in tunnels.bodies():
        yield _Planned(body.protocol, body.kind, body.form, partial(smuggling.body, body, forged))
    for stream in tunnels.streams(target.authority, target.path):
        yield _Planned(stream.protocol, stream.kind, stream.form, partial(smuggling.stream, stream, forged))


def _forge(exchange: Callable[[Target, Spoof], int], spoof: Spoof, target: Target, _: Usual) -> Sign:
    status = exchange(target, spoof)
    return Sign(str(status), got_in=status < 400)


def _outcomes(plan: list[_Planned], target: Target, certificate: bool, usual: Usual, until: float) -> Iterator[Outcome]:
    late: Counter[str] = Counter()
    for each in plan:
        in_time = time.monotonic() < until
        tried = in_time and late[each.protocol] < _PATIENCE
        sign = Sign(_GIVEN_UP if in_time else _OVER, got_in=False)
        if tried:
            try:
                sign = each.make(target, usual)
                late[each.protocol] = 0
            except exchanges.NotSpoken:
                sign = Sign("not spoken there", got_in=False)
            except TimeoutError:
                late[each.protocol] += 1
                tried, sign = False, Sign(_LATE, got_in=False)
            except OSError as error:
                late[each.protocol] = 0
                sign = Sign(_ended(error), got_in=False)
        yield Outcome(each.protocol, certificate, each.header, each.form, sign.answer, sign.got_in, tried)


def _ended(error: OSError) -> str:
    reason = f": {error.verify_message}" if isinstance(error, ssl.SSLCertVerificationError) else ""
    return f"connection ended ({type(error).__name__}{reason})"


def _usual(target: Target, *, certificate: bool) -> Usual:
    """What plain requests get. Raises `ConfigurationError` unless the address refuses them."""
    given = "with your certificate" if certificate else "without a certificate"
    try:
        statuses = {exchanges.http1(target, PLAIN) for _ in range(_PATIENCE)}
    except OSError as error:
        raise ConfigurationError(
            f"the address does not answer {given}: {_ended(error)}. A server that demands certificates in the "
            "handshake reads no header without one; give --certificate"
        ) from error
    welcome = [status for status in statuses if status < 400]
    if welcome:
        raise ConfigurationError(
            f"the address answers {welcome[0]} {given}, so there is nothing to get past: name a path that is refused"
        )
    if len(statuses) > 1:
        raise ConfigurationError(
            f"the address answers {sorted(statuses)} to the same request {given}: name a path with one answer"
        )
    try:
        post = exchanges.http1(target, Spoof("none", "none", (), trailers=True))
    except OSError:
        post = 0
    return Usual(get=statuses.pop(), post=post)


def _url(text: str) -> SplitResult:
    try:
        parts = urlsplit(text)
        usable = parts.scheme == "https" and parts.hostname and parts.port != 0 and text.isascii()
        (parts.hostname or "").encode("idna")  # as `ssl` and `socket` do: "a..b" is not a name
    except ValueError:
        usable = False
    if not usable or any(character <= " " for character in text):
        raise ConfigurationError(f"{text!r} is not an https address, for example https://api.example/private")
    return parts


def _context(options: argparse.Namespace, certificate: str | None) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=options.ca)
        if certificate is not None:
            context.load_cert_chain(certificate, options.key)
    except (OSError, ssl.SSLError) as error:
        raise ConfigurationError(f"--ca, --certificate or --key cannot be read: {error}") from error
    return context


def _victim(path: str | None) -> x509.Certificate:
    if path is not None:
        try:
            return x509.load_pem_x509_certificate(Path(path).read_bytes())
        except (OSError, *UNREADABLE) as error:
            raise ConfigurationError(f"--victim {path}: {error}") from error
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "probe")])
    now = datetime.now(UTC)
    made = x509.CertificateBuilder(
        name, name, key.public_key(), x509.random_serial_number(), now, now + timedelta(days=1)
    )
    return made.sign(key, hashes.SHA256())


def _print(outcomes: list[Outcome], *, as_json: bool) -> None:
    if as_json:
        slots = [each.name for each in fields(Outcome)]
        sys.stdout.write(json.dumps([{name: getattr(each, name) for name in slots} for each in outcomes]) + "\n")
        return
    for each in outcomes:
        word = "GOT IN" if each.got_in else "kept out" if each.tried else "unknown"
        given = "own certificate" if each.certificate else "no certificate"
        line = f"{word:8}  {each.protocol:8}  {given:15}  {each.header:16}  {each.form:42}  {escaped(each.answer)}\n"
        sys.stdout.write(line)
