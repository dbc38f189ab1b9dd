"""`openssl verify -purpose sslclient` as an independent judge of generated chains.

`MTLS_CHAINS=5000` makes it thousands. What openssl refuses, we refuse, with one exception; what we refuse beyond that
has to be explained by a rule that openssl does not have.
"""

import ipaddress
import os
import subprocess
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from mtls_middleware.certificate import ClientCertificate
from mtls_middleware.errors import ConfigurationError
from mtls_middleware.validation import TrustStore
from tests.validation.unusual_certificates import usage
from tests.validation.verdicts import reasons

CHAINS = int(os.environ.get("MTLS_CHAINS", "150"))
NOW = 1_790_000_000
PURPOSES = {
    "client": [ExtendedKeyUsageOID.CLIENT_AUTH],
    "server": [ExtendedKeyUsageOID.SERVER_AUTH],
    "both": [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH],
    "any": [ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE],
}
# What we refuse and openssl does not, each a rule of ours: the reason has to say so.
STRICTER = (
    "a CA certificate cannot be a client certificate",  # M13
    "keyUsage of a CA",
    "keyUsage without digitalSignature",  # openssl 3.0 has keyEncipherment pass for no reason of a client
    "name constraints in a certificate that is not a CA certificate",
    "extendedKeyUsage without clientAuth",  # anyExtendedKeyUsage
    "an issuer whose extendedKeyUsage lacks clientAuth",
    "unsupported directoryName",  # the engine
    "unsupported name constraint",  # the engine: URIs
    "exceeds max depth",
    "path length constraint violated",
    "Certificate extension has incorrect criticality",
)


@dataclass(frozen=True)
class Level:
    """One certificate of a chain, root first."""

    ca: bool
    path_length: int | None
    usage: tuple[str, ...] | None
    purpose: str | None
    begins: int  # days from now
    ends: int
    permitted: str | None = None
    excluded: str | None = None


def levels(*, leaf):
    few = st.sampled_from
    return st.builds(
        Level,
        ca=few([not leaf] * 30 + [leaf]),
        path_length=few([None] * 20 + [0, 1, 2]),
        usage=few(
            [None]
            + [("digital_signature",) if leaf else ("key_cert_sign", "crl_sign")] * 24
            + [("key_encipherment",), ("digital_signature",), ("key_agreement",)]
        ),
        purpose=few([None, None, "client", "client", "both", "server", "any"] if leaf else [None] * 30 + [*PURPOSES]),
        begins=few([-10] * 40 + [1]),
        ends=few([10] * 40 + [-1]),
        permitted=st.none() if leaf else few([None] * 15 + ["dns", "ip", "email", "directory", "uri"]),
        excluded=st.none() if leaf else few([None] * 15 + ["dns", "ip", "email", "directory", "uri"]),
    )


NAMES = {
    "dns": (x509.DNSName, ("internal", "billing.internal", "billing.example")),
    "ip": (x509.IPAddress, ("10.0.0.0/8", "10.1.2.3", "192.0.2.1")),
    "email": (x509.RFC822Name, ("acme.example", "a@acme.example", "a@evil.example")),
    "uri": (x509.UniformResourceIdentifier, ("acme.internal", "spiffe://acme.internal/a", "spiffe://evil/a")),
    "directory": (x509.DirectoryName, ("O=Acme", "CN=a b,O=Acme", "CN=a b,O=Evil")),
}


def name_of(kind, number):
    make, values = NAMES[kind]
    if kind == "ip":
        return make(ipaddress.ip_network(values[0]) if number == 0 else ipaddress.ip_address(values[number]))
    return make(x509.Name.from_rfc4514_string(values[number]) if kind == "directory" else values[number])


chains = st.tuples(
    levels(leaf=False),
    st.lists(levels(leaf=False), max_size=3),
    levels(leaf=True),
    st.lists(
        st.tuples(st.sampled_from(["dns", "ip", "email", "uri"]), st.sampled_from([1, 2])), max_size=2, unique=True
    ),
    st.sampled_from(["CN=a b,O=Acme", "CN=a b,O=Evil"]),
    st.sampled_from([None] * 15 + [0, 1, 2]),  # whose signature is another's
)


@cache
def key(number):
    return ec.generate_private_key(ec.SECP256R1())


def build(described):
    """From root to leaf."""
    root, between, leaf, names, subject, swapped = described
    every = [root, *between, leaf]
    found = []
    for number, level in enumerate(every):
        last = number == len(every) - 1
        issuer, signer = max(0, number - 1), max(0, number - 1)
        if swapped is not None and number == swapped + 1:
            signer = 99
        organisation = "CN=Level %d,O=Acme"
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name.from_rfc4514_string(subject if last else organisation % number))
            .issuer_name(x509.Name.from_rfc4514_string(organisation % issuer))
            .public_key(key(number).public_key())
            .serial_number(number + 1)
            .not_valid_before(datetime.fromtimestamp(NOW, UTC) + timedelta(days=min(level.begins, level.ends - 1)))
            .not_valid_after(datetime.fromtimestamp(NOW, UTC) + timedelta(days=level.ends))
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key(number).public_key()), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(key(issuer).public_key()), critical=False)
            .add_extension(x509.BasicConstraints(level.ca, level.path_length if level.ca else None), critical=True)
        )
        for extension, critical in extensions(level, names if last else ()):
            builder = builder.add_extension(extension, critical)
        found.append(builder.sign(key(signer), hashes.SHA256()))
    return found


def extensions(level, names):
    if level.usage is not None:
        yield usage(*level.usage), True
    if level.purpose is not None:
        yield x509.ExtendedKeyUsage(PURPOSES[level.purpose]), False
    if names:
        yield x509.SubjectAlternativeName([name_of(*each) for each in names]), False
    subtrees = [None if kind is None else [name_of(kind, 0)] for kind in (level.permitted, level.excluded)]
    if any(subtrees):
        yield x509.NameConstraints(*subtrees), True


def openssl_accepts(chain, directory):
    root, *between, leaf = [each.public_bytes(Encoding.PEM) for each in chain]
    for name, content in (("root", root), ("between", b"".join(between)), ("leaf", leaf)):
        (directory / name).write_bytes(content)
    untrusted = ["-untrusted", directory / "between"] if between else []
    line = ["openssl", "verify", "-purpose", "sslclient", "-attime", str(NOW), "-check_ss_sig"]
    run = subprocess.run(
        [*line, "-CAfile", directory / "root", "-no-CApath", *untrusted, directory / "leaf"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode in (0, 2), run.stderr
    return run.returncode == 0, run.stderr


@pytest.mark.standard("M1", "M2", "M4", "M5", "M7", "M8", "M13")
@pytest.mark.case("067", "069", "070", "074")
@settings(max_examples=CHAINS, derandomize=CHAINS == 150, suppress_health_check=list(HealthCheck))
@given(chains)
def test_we_accept_nothing_that_openssl_refuses_and_refuse_little_else(described):
    above = described[0], *described[1]
    chain = build(described)
    root, *between, leaf = chain
    with tempfile.TemporaryDirectory() as directory:
        theirs, error = openssl_accepts(chain, Path(directory))
    certificate = ClientCertificate.from_der(
        leaf.public_bytes(Encoding.DER), chain=tuple(each.public_bytes(Encoding.DER) for each in between)
    )
    try:
        ours = reasons(TrustStore([root]), certificate, NOW)
    except ConfigurationError as refused:  # a root that can never validate
        ours = (str(refused),)
    event(f"openssl accepts: {theirs}, we accept: {ours == ()}")
    if ours == ():
        # A CA for any purpose is one for clients, says RFC 5280 4.2.1.12; openssl wants each purpose named.
        any_purpose = "unsuitable certificate purpose" in error and "any" in {each.purpose for each in above}
        assert theirs or any_purpose, error
    elif theirs:
        assert any(known in reason for reason in ours for known in STRICTER), ours
