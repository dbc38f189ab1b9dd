"""`mtls-middleware probe URL`: the look from outside. Does a forged certificate header get past this address?

Must never know: what runs there. The address must refuse requests without a certificate; a forgery that is answered
otherwise got in.
"""

import argparse
import json
import ssl
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from mtls_middleware.cli import exchanges, spoofs
from mtls_middleware.cli.spoofs import Spoof
from mtls_middleware.errors import ConfigurationError, require_extra

_FASTEST = 100.0  # requests a second: this is a look, not a load


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one request got: `answer` is the status, or how the connection ended."""

    protocol: str
    certificate: bool
    header: str
    form: str
    answer: str
    got_in: bool


def arguments(parser: argparse.ArgumentParser) -> None:
    """Say which options the command takes."""
    parser.add_argument("url", metavar="URL", help="https address of your own that refuses without a certificate")
    parser.add_argument(
        "--victim",
        metavar="CERT",
        help="PEM file of the certificate to pretend to have; default: one made up for the occasion",
    )
    parser.add_argument(
        "--certificate", metavar="CERT", help="PEM file of a certificate of yours that is refused there"
    )
    parser.add_argument("--key", help="its key; default: in the same file")
    parser.add_argument("--ca", help="PEM file of the CA that signed the server's certificate; default: the system's")
    parser.add_argument("--rate", type=float, default=20.0, help="requests a second, 100 at most; default: %(default)s")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(options: argparse.Namespace) -> int:
    """Send each forgery and print what got in; 1 where one did. Raises `ConfigurationError`."""
    url = _url(options.url)
    require_extra("h2", "probe", "probe")
    if not 0 < options.rate <= _FASTEST:
        raise ConfigurationError(f"--rate {options.rate}: more than 0, and {_FASTEST:.0f} at most")
    contexts = [(False, _context(options, None))]
    if options.certificate is not None:
        contexts.append((True, _context(options, options.certificate)))
    victim = _victim(options.victim)
    plan = [
        (protocol, certificate, context, spoof)
        for certificate, context in contexts
        for protocol, wanted in (("HTTP/1.1", spoofs.over_http1), ("HTTP/2", spoofs.over_http2))
        for spoof in wanted(victim)
    ]
    for certificate, context in contexts:
        _check_refused(url, context, certificate=certificate)
    sys.stderr.write(
        f"sending {len(plan)} requests to {options.url}, {options.rate:g} a second, each with a forged\n"
        "certificate header; nothing else is sent\n"
    )
    outcomes = list(_probe(url, plan, 1 / options.rate))
    entered = [each for each in outcomes if each.got_in]
    if options.json:
        slots = ("protocol", "certificate", "header", "form", "answer", "got_in")
        sys.stdout.write(json.dumps([{name: getattr(each, name) for name in slots} for each in outcomes]) + "\n")
    else:
        sys.stdout.writelines(_table(outcomes))
    sys.stderr.write(f"{len(entered)} of {len(outcomes)} got in\n")
    return int(bool(entered))


def _probe(url: SplitResult, plan: list[tuple[str, bool, ssl.SSLContext, Spoof]], pause: float) -> Iterator[Outcome]:
    for protocol, certificate, context, spoof in plan:
        began = time.monotonic()
        answer = _answer(url, context, protocol, spoof)
        yield Outcome(protocol, certificate, spoof.header, spoof.form, answer, got_in=_is_welcome(answer))
        time.sleep(max(0.0, pause - (time.monotonic() - began)))


def _answer(url: SplitResult, context: ssl.SSLContext, protocol: str, spoof: Spoof) -> str:
    """The status as text, or how it ended without one."""
    exchange = exchanges.http1 if protocol == "HTTP/1.1" else exchanges.http2
    try:
        return str(exchange(url, context, spoof))
    except exchanges.NotSpoken:
        return "not spoken there"
    except (OSError, ValueError) as error:
        return f"connection ended ({type(error).__name__})"


def _is_welcome(answer: str) -> bool:
    return answer.isdecimal() and int(answer) < 400


def _check_refused(url: SplitResult, context: ssl.SSLContext, *, certificate: bool) -> None:
    """Raise `ConfigurationError` unless the address answers, and refuses a request without any forgery."""
    answer = _answer(url, context, "HTTP/1.1", Spoof("none", "none", ()))
    given = "with your certificate" if certificate else "without a certificate"
    if _is_welcome(answer):
        raise ConfigurationError(f"the address answers {answer} {given}: there is nothing to get past; take another")
    if not answer.isdecimal():
        raise ConfigurationError(
            f"the address does not answer {given}: {answer}; behind a server that demands "
            "certificates in the handshake no header is read without one"
        )


def _url(text: str) -> SplitResult:
    parts = urlsplit(text)
    if parts.scheme != "https" or not parts.hostname:
        raise ConfigurationError(f"{text!r} is no https address, for example https://api.example/private")
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
        except (OSError, ValueError) as error:
            raise ConfigurationError(f"--victim {path}: {error}") from error
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "probe")])
    now = datetime.now(UTC)
    made = x509.CertificateBuilder(
        name, name, key.public_key(), x509.random_serial_number(), now, now + timedelta(days=1)
    )
    return made.sign(key, hashes.SHA256())


def _table(outcomes: list[Outcome]) -> Iterator[str]:
    for each in outcomes:
        word = "GOT IN" if each.got_in else "kept out"
        given = "own certificate" if each.certificate else "no certificate"
        yield f"{word:8}  {each.protocol:8}  {given:15}  {each.header:15}  {each.form:42}  {each.answer}\n"
