"""The command `mtls-middleware probe URL`: tries from outside whether an address accepts a forged certificate header.

The address must reject requests without a certificate. In the report, an attempt that was not rejected "got in".
"""

import argparse
import ssl
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Protocol
from urllib.parse import SplitResult, urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from mtls_middleware.cli import exchanges, probe_report, smuggling, spoofs, tunnels
from mtls_middleware.cli.exchanges import Target
from mtls_middleware.cli.probe_report import Outcome
from mtls_middleware.cli.smuggling import PLAIN, Baseline, Verdict
from mtls_middleware.cli.spoofs import Spoof
from mtls_middleware.errors import ConfigurationError, require_extra
from mtls_middleware.parser_errors import UNREADABLE

# The maximum number of connections a second, so that the probe does not overload the server.
_MAX_RATE = 100.0
# After this number of timeouts in a row over one protocol, the probe makes no further attempts over this protocol.
_MAX_TIMEOUTS = 3
_BASELINE_REQUESTS = 3
_TIMED_OUT = "timed out: the attempt took longer than --timeout"
_PROTOCOL_SKIPPED = f"not tried: {_MAX_TIMEOUTS} attempts in a row timed out"
_LIMIT_REACHED = "not tried: the run reached its --limit"

_START_NOTE = """\
making {count} attempts at {url}, with at most {rate:g} connections a second; nothing is sent to another address
"""
_DISTURBANCE_NOTE = """\
Attempts with half a request can disturb other clients of a vulnerable system: a client may get 400.
Use --headers-only to leave these attempts out.
"""
_DEMANDED_NOTE = """\
The server demands a client certificate in the TLS handshake, so a client without a certificate cannot send a request.
All attempts use your certificate.
"""
# A placeholder for the address: the kinds of attempts do not depend on it.
_ANYWHERE = ("localhost", "/")
_LIMITS_NOTE = """\
The probe cannot detect a hidden request if the proxy forwards the request within a body and drops the response.
An attempt with half a request detects this only if the proxy uses the same connection again, which is less likely on a
busy system. Therefore "kept out" proves nothing. Also run "mtls-middleware doctor" with the server's command.
"""


class _MakeAttempt(Protocol):
    def __call__(self, target: Target, baseline: Baseline, /) -> Verdict:
        """Make the attempt, and return its verdict. Raises `OSError` or `ProtocolNotSupported`."""


@dataclass(frozen=True, slots=True)
class _Attempt:
    protocol: str
    header: str
    form: str
    make: _MakeAttempt


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command `probe` to `parser`."""
    parser.add_argument(
        "url", metavar="URL", help="an https address of your own that rejects requests without a certificate"
    )
    parser.add_argument(
        "--victim",
        metavar="CERT",
        help="PEM file of the certificate to forge; default: a new certificate, made for this run",
    )
    parser.add_argument(
        "--certificate", metavar="CERT", help="PEM file of a certificate of your own that the address rejects"
    )
    parser.add_argument("--key", help="PEM file of the key of --certificate; default: the key is in the same file")
    parser.add_argument("--ca", help="PEM file of the CA of the server's certificate; default: the CAs of the system")
    parser.add_argument("--rate", type=float, default=20.0, help="connections a second, at most 100; default: 20")
    parser.add_argument(
        "--timeout", type=float, default=5.0, help="seconds for one attempt, from 0.1 to 60; default: 5"
    )
    parser.add_argument(
        "--limit", type=float, default=900.0, help="maximum number of seconds for the whole run; default: 900"
    )
    parser.add_argument(
        "--headers-only",
        action="store_true",
        help="only forge header fields; leave out upgrades, CONNECT and requests in bodies",
    )
    parser.add_argument("--verbose", action="store_true", help="print every attempt, not only the failures")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(options: argparse.Namespace) -> int:
    """Make all attempts, and print their results.

    Returns 1 if an attempt got in, 2 if no attempt got in but the result of an attempt is unknown, and 0 otherwise.
    Raises `ConfigurationError` if an option is invalid, or if the address does not reject plain requests.
    """
    url = _url(options.url)
    require_extra("h2", "probe", "probe")
    if not 0 < options.rate <= _MAX_RATE:
        raise ConfigurationError(
            f"--rate {options.rate}: expected more than 0 and at most {_MAX_RATE:.0f}, for example --rate 20"
        )
    if not 0.1 <= options.timeout <= 60:
        raise ConfigurationError(f"--timeout {options.timeout}: expected 0.1 to 60 seconds, for example --timeout 5")
    contexts: list[tuple[bool, ssl.SSLContext]] = [(False, _context(options, None))]
    if options.certificate is not None:
        contexts.append((True, _context(options, options.certificate)))
    targets = {given: Target(url, context, options.timeout, 1 / options.rate) for given, context in contexts}
    plan = list(_plan(_victim(options.victim), targets[False], headers_only=options.headers_only))
    baseline = _baselines(targets)
    targets = {given: target for given, target in targets.items() if given in baseline}
    count = len(plan) * len(targets)
    sys.stderr.write(_START_NOTE.format(count=count, url=options.url, rate=options.rate))
    if not options.headers_only:
        sys.stderr.write(_DISTURBANCE_NOTE)
    until = time.monotonic() + options.limit
    outcomes = [
        outcome
        for given, target in targets.items()
        for outcome in _outcomes(plan, target, given, baseline[given], until)
    ]
    kinds = {each.kind for each in tunnels.upgrades()} | {each.kind for each in tunnels.bodies()}
    kinds |= {each.kind for each in tunnels.streams(*_ANYWHERE)}
    probe_report.write(outcomes, kinds, verbose=options.verbose, as_json=options.json)
    got_in = sum(outcome.got_in for outcome in outcomes)
    sys.stderr.write(f"{got_in} of {len(outcomes)} got in\n")
    if not options.headers_only:
        sys.stderr.write(_LIMITS_NOTE)
    untried = sum(not outcome.tried for outcome in outcomes)
    if untried:
        sys.stderr.write(f"{untried} of {len(outcomes)} have no verdict: they timed out or were not tried\n")
    return 1 if got_in else 2 if untried else 0


def _plan(victim: x509.Certificate, target: Target, *, headers_only: bool) -> Iterator[_Attempt]:
    for spoof in spoofs.over_http1(victim):
        yield _Attempt("HTTP/1.1", spoof.header, spoof.form, partial(_forge, exchanges.http1, spoof))
    for spoof in spoofs.over_http2(victim):
        yield _Attempt("HTTP/2", spoof.header, spoof.form, partial(_forge, exchanges.http2, spoof))
    if headers_only:
        return
    forged = spoofs.claims(victim)
    for upgrade in tunnels.upgrades():
        yield _Attempt(upgrade.protocol, upgrade.kind, upgrade.form, partial(smuggling.upgrade, upgrade, forged))
    for body in tunnels.bodies():
        yield _Attempt(body.protocol, body.kind, body.form, partial(smuggling.body, body, forged))
    for stream in tunnels.streams(target.authority, target.path):
        yield _Attempt(stream.protocol, stream.kind, stream.form, partial(smuggling.stream, stream, forged))


def _forge(exchange: Callable[[Target, Spoof], int], spoof: Spoof, target: Target, _: Baseline) -> Verdict:
    status = exchange(target, spoof)
    return Verdict(str(status), got_in=status < 400)


def _outcomes(
    plan: list[_Attempt], target: Target, certificate: bool, baseline: Baseline, until: float
) -> Iterator[Outcome]:
    timeouts: Counter[str] = Counter()
    for attempt in plan:
        in_time = time.monotonic() < until
        tried = in_time and timeouts[attempt.protocol] < _MAX_TIMEOUTS
        verdict = Verdict(_PROTOCOL_SKIPPED if in_time else _LIMIT_REACHED, got_in=False)
        if tried:
            try:
                verdict = attempt.make(target, baseline)
                timeouts[attempt.protocol] = 0
            except exchanges.ProtocolNotSupported:
                verdict = Verdict("the server does not support the protocol", got_in=False)
            except TimeoutError:
                timeouts[attempt.protocol] += 1
                tried, verdict = False, Verdict(_TIMED_OUT, got_in=False)
            except OSError as error:
                timeouts[attempt.protocol] = 0
                verdict = Verdict(_failure(error), got_in=False)
        yield Outcome(
            attempt.protocol, certificate, attempt.header, attempt.form, verdict.answer, verdict.got_in, tried
        )


def _failure(error: OSError) -> str:
    reason = f": {error.reason}" if isinstance(error, ssl.SSLError) and error.reason else ""
    return f"connection ended ({type(error).__name__}{reason})"


class _HandshakeError(ConfigurationError):
    """Raised if the server ends the TLS handshake of a client without a certificate."""


def _baselines(targets: dict[bool, Target]) -> dict[bool, Baseline]:
    """Return the baseline of each target.

    If a server requires a certificate in the TLS handshake, clients without a certificate have no baseline.

    Raises `ConfigurationError`: see `_baseline`.
    """
    found = {}
    for given, target in targets.items():
        try:
            found[given] = _baseline(target, certificate=given)
        except _HandshakeError:
            if given or True not in targets:
                raise
            sys.stderr.write(_DEMANDED_NOTE)
    return found


def _baseline(target: Target, *, certificate: bool) -> Baseline:
    """Send plain requests, and return their statuses.

    Raises `ConfigurationError` unless all GET requests get the same status, and this status is 400 or higher.
    """
    given = "with your certificate" if certificate else "without a certificate"
    try:
        statuses = {exchanges.http1(target, PLAIN) for _ in range(_BASELINE_REQUESTS)}
    except ssl.SSLCertVerificationError as error:
        raise ConfigurationError(
            f"this machine does not accept the server's certificate: {error.verify_message}. If it is from a private "
            "CA, give the CA's certificate with --ca ca.pem. No client certificate is needed for this step"
        ) from error
    except OSError as error:
        problem = f"the address does not answer {given}: {_failure(error)}"
        if not _may_demand_certificate(error):
            raise ConfigurationError(problem) from error
        raise _HandshakeError(
            f"{problem}. The server probably demands a certificate in the TLS handshake: give one that the server's CA "
            "issued, and that the application rejects, with --certificate"
        ) from error
    accepted = [status for status in statuses if status < 400]
    if accepted:
        raise ConfigurationError(
            f"the address answers {accepted[0]} {given}, so the probe cannot detect anything: give a URL that answers "
            "such a request with 4xx"
        )
    if len(statuses) > 1:
        raise ConfigurationError(
            f"the address answers {sorted(statuses)} to the same request {given}: give a URL that always answers with "
            "the same status"
        )
    try:
        post = exchanges.http1(target, Spoof("none", "none", (), trailers=True))
    except OSError:
        post = 0
    return Baseline(get=statuses.pop(), post=post)


def _may_demand_certificate(error: OSError) -> bool:
    """Return whether this error may mean that the server requires a client certificate.

    With TLS 1.3, some servers send an alert, and others only close the connection.
    """
    if isinstance(error, ssl.SSLError):
        return any(word in str(error).upper() for word in ("CERTIFICATE_REQUIRED", "HANDSHAKE_FAILURE", "EOF"))
    return isinstance(error, ConnectionError) and not isinstance(error, ConnectionRefusedError)


def _url(text: str) -> SplitResult:
    try:
        parts = urlsplit(text)
        usable = parts.scheme == "https" and parts.hostname and parts.port != 0 and text.isascii()
        # `ssl` and `socket` encode the name in the same way. This raises UnicodeError for "a..b".
        (parts.hostname or "").encode("idna")
    except ValueError:
        usable = False
    if not usable or any(character <= " " for character in text):
        raise ConfigurationError(
            f"{text!r} is not an https address; expected an address such as https://api.example/private"
        )
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
