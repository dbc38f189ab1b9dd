"""The command `mtls-middleware inspect CERT`: prints a certificate, and the rules of `policy` that match it."""

import argparse
import contextlib
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID

from mtls_middleware import parser_errors, policy
from mtls_middleware.certificate import ClientCertificate, Verification
from mtls_middleware.errors import ConfigurationError, MalformedCertificate
from mtls_middleware.names.attribute_types import NAME_OF
from mtls_middleware.names.invisible import escape_invisible
from mtls_middleware.parser_errors import UNREADABLE
from mtls_middleware.rule import Identity, Rule
from mtls_middleware.sources import forms, leaf_and_chain
from mtls_middleware.validation import root_check, trust_files

# The rules about one alternative name, and the property of the certificate that contains these names.
_NAMES: tuple[tuple[type[Rule], str], ...] = (
    (policy.DNSName, "dns_names"),
    (policy.URI, "uris"),
    (policy.IPAddress, "ip_addresses"),
    (policy.Email, "email_addresses"),
    (policy.UserPrincipalName, "user_principal_names"),
)


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command `inspect` to `parser`."""
    parser.add_argument(
        "certificate",
        metavar="CERT",
        help="a PEM or DER file; - reads a certificate, or the value of a header, from standard input",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(options: argparse.Namespace) -> int:
    """Print the certificate and return 0. Raises `ConfigurationError` if no certificate can be read."""
    form, certificate = load(options.certificate)
    description = {"form": form, **describe(certificate)}
    if options.json:
        sys.stdout.write(json.dumps(description, indent=2) + "\n")
    else:
        sys.stdout.writelines(_lines(description))
    return 0


def load(path: str) -> tuple[str, ClientCertificate]:
    """Return the name of the encoding of a file, and its certificate. `-` is standard input.

    Raises `ConfigurationError`. Example: `load("client.pem")`
    """
    try:
        data = sys.stdin.buffer.read() if path == "-" else Path(path).read_bytes()
    except OSError as error:
        raise ConfigurationError(f"{path}: {error.strerror}") from error
    return read(data, path)


def read(data: bytes, file: str = "client.pem") -> tuple[str, ClientCertificate]:
    """Return the name of the encoding of `data`, and the certificate in `data`.

    `file`: the name of the file, for the message. Raises `ConfigurationError` if `data` contains no certificate.

    Example: `read(Path("client.pem").read_bytes())`
    """
    try:
        return "DER", ClientCertificate.from_der(data)
    except MalformedCertificate:
        pass
    text = data.decode("latin-1").strip()
    form = forms.form_of(text)
    if form is not None:
        leaf, *chain = form.read(text)
        return form.name, leaf_and_chain.load(leaf, chain, Verification.PRESENTED, now=0.0)
    try:
        leaf, *chain = trust_files.certificate_ders(data)
        return "PEM file", leaf_and_chain.load(leaf, chain, Verification.PRESENTED, now=0.0)
    except (MalformedCertificate, ValueError):
        expected = "expected a DER or PEM file, or the value of a certificate header"
        raise ConfigurationError(f"no certificate found: {expected}{_file_advice(data, file)}") from None


def _file_advice(data: bytes, file: str) -> str:
    """Return the kind of a file without a certificate and the command that converts it, or "" if unknown."""
    try:
        trust_files.read_certificates(data, file)
    except ValueError as error:
        return f"; {error}"
    return ""


def describe(certificate: ClientCertificate) -> dict[str, Any]:
    """Return the contents of the certificate as JSON data. The value of a field that cannot be read is the reason."""
    names = ("subject", "issuer", *(name for _, name in _NAMES), "policies", "extended_key_usages", "spiffe_id")
    return {
        "thumbprint": certificate.thumbprint,
        **{name: _readable(certificate, name) for name in names},
        "other_names": _readable(certificate, "other_names", lambda pair: f"{pair[0]}=#{pair[1].hex()}"),
        "serial_number": _readable(certificate, "serial_number", lambda number: f"{number:x}"),
        "not_valid_before": _readable(certificate, "not_valid_before", lambda moment: moment.isoformat()),
        "not_valid_after": _readable(certificate, "not_valid_after", lambda moment: moment.isoformat()),
        "key": _key(certificate),
        "trust_store": _objections(certificate),
        "chain": [ClientCertificate.from_der(der).thumbprint for der in certificate.chain],
        "rules": list(_rules(certificate)),
        "notes": list(_notes(certificate)),
    }


def _readable(certificate: ClientCertificate, name: str, write: Callable[[Any], Any] | None = None) -> Any:
    try:
        value = getattr(certificate, name)
    except MalformedCertificate as error:
        return f"unreadable: {error.evidence[0]}"
    if isinstance(value, tuple):
        return [*map(write or str, value)]
    return value if write is None else write(value)


def _key(certificate: ClientCertificate) -> str:
    try:
        key = certificate.x509.public_key()
    except (MalformedCertificate, *UNREADABLE) as error:
        return f"unknown: {parser_errors.reason(error)}"
    match key:
        case rsa.RSAPublicKey():
            return f"RSA {key.key_size}"
        case ec.EllipticCurvePublicKey():
            return f"EC {key.curve.name}"
        case ed25519.Ed25519PublicKey() | ed448.Ed448PublicKey():
            return type(key).__name__.removesuffix("PublicKey")
    return type(key).__name__


def _objections(certificate: ClientCertificate) -> list[str]:
    """Return the reasons why a trust store would reject the certificate itself."""
    try:
        return root_check.objections(certificate.x509, ExtendedKeyUsageOID.CLIENT_AUTH)
    except (MalformedCertificate, *UNREADABLE) as error:
        return [f"cannot be read: {parser_errors.reason(error)}"]


def _notes(certificate: ClientCertificate) -> Iterator[str]:
    """Yield the reasons why no rule about the subject or the issuer matches, although the name can be read."""
    for name in ("subject", "issuer"):
        with contextlib.suppress(MalformedCertificate):
            found = getattr(certificate, f"{name}_name")
            if found.rdns and found.comparable is None:
                yield (
                    f"no rule matches the whole {name}: it has an attribute type twice in one RDN, or a character that "
                    "never matches by RFC 4518, for example one that is newer than Unicode 3.2"
                )


def _rules(certificate: ClientCertificate) -> Iterator[str]:
    """Yield the rules of `mtls_middleware.policy` that match this certificate, as Python code."""
    for make, *arguments in _candidates(certificate):
        try:
            rule = make(*arguments)
        except ConfigurationError:
            continue  # no rule accepts this name as a value, for example a dNSName with a wildcard
        if policy.Presented(rule).holds(certificate) if isinstance(rule, Identity) else rule.holds(certificate):
            yield f"{make.__name__}({', '.join(map(repr, arguments))})"


def _candidates(certificate: ClientCertificate) -> Iterator[tuple[Any, ...]]:
    """For each readable name in the certificate, yield the class and the arguments of the rule about this name."""
    yield policy.Thumbprint, certificate.thumbprint
    for make, name in (
        (policy.Subject, "subject"),
        (policy.Issuer, "issuer"),
        *_NAMES,
        (policy.SpiffeID, "spiffe_id"),
        (policy.CertificatePolicy, "policies"),
        (policy.ExtendedKeyUsage, "extended_key_usages"),
    ):
        with contextlib.suppress(MalformedCertificate):
            value = getattr(certificate, name)
            for each in value if isinstance(value, tuple) else [value] if value else []:
                yield make, str(each)
    with contextlib.suppress(MalformedCertificate):
        for oid, attributes in certificate.subject_name.by_type.items():
            for each in dict.fromkeys(attribute.text for attribute in attributes):
                yield policy.SubjectAttribute, NAME_OF.get(oid, oid), each


def _lines(description: dict[str, Any]) -> Iterator[str]:
    for name, value in description.items():
        values = value if isinstance(value, list) else [value]
        for position, each in enumerate(values or ["none"]):
            label = name.replace("_", " ") if position == 0 else ""
            text = "none" if each is None else str(each)
            # Control characters in a certificate must not reach the terminal.
            yield f"{label:22}{escape_invisible(text)}\n"
