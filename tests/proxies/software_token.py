"""A smart card in software, SoftHSM, with keys that cannot be exported; and curl as the client that uses them."""

import itertools
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from mtls_middleware.testing import CertificateAuthority, IssuedCertificate
from tests.proxies import programs

MODULE = "/usr/lib/softhsm/libsofthsm2.so"
PIN = "123456"  # PIV cards have PINs of six to eight digits (NIST SP 800-73 part 2, 2.4.3)
FASC_N = "d4e739da739ced39ce739da1685a1082108ce73984119257fc"
# The certificate for PIV authentication (NIST SP 800-73, FIPS 201), with a UPN as Active Directory needs it.
PIV = """
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = clientAuth, msSmartcardLogin, 1.3.6.1.5.2.3.4
certificatePolicies = 2.16.840.1.101.3.2.1.3.13
authorityKeyIdentifier = keyid
subjectAltName = @names
[names]
otherName.0 = msUPN;UTF8:{upn}
otherName.1 = 2.16.840.1.101.3.6.6;FORMAT:HEX,OCT:{fasc_n}
URI = urn:uuid:f81d4fae-7dec-11d0-a765-00a0c91e6bf6
"""
_numbers = itertools.count()


@dataclass(frozen=True)
class Response:
    """What curl received. If there was no response, `status` is 0, and `error` is the message of curl."""

    status: int
    body: str
    error: str


class SoftwareToken:
    """A token in a new folder. It is independent of all other tokens."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "objects").mkdir(parents=True)
        configuration = folder / "softhsm2.conf"
        configuration.write_text(f"directories.tokendir = {folder}/objects\n")
        self.environment = {**os.environ, "SOFTHSM2_CONF": str(configuration), "PKCS11_MODULE_PATH": MODULE}
        self.run("softhsm2-util", "--init-token", "--free", "--label", "card", "--pin", PIN, "--so-pin", "12345678")

    def run(self, *command: str, succeeds: bool = True) -> str:
        done = subprocess.run(
            [programs.program(command[0]), *command[1:]],
            env=self.environment, cwd=self.folder, stdin=subprocess.DEVNULL, capture_output=True, text=True,
            check=False, timeout=60,
        )  # fmt: skip
        assert (done.returncode == 0) is succeeds, done.stdout + done.stderr
        return done.stdout + done.stderr

    def tool(self, *arguments: str, succeeds: bool = True) -> str:
        """pkcs11-tool of OpenSC."""
        command = ("pkcs11-tool", "--module", MODULE, "--token-label", "card", "--login", "--pin", PIN)
        return self.run(*command, *arguments, succeeds=succeeds)

    def generate(self, key_id: str = "01", kind: str = "EC:prime256v1") -> str:
        """Generate a key pair on the token, and return what pkcs11-tool says about it."""
        return self.tool("--keypairgen", "--key-type", kind, "--id", key_id)

    def certify(self, authority: CertificateAuthority, upn: str, key_id: str = "01") -> Path:
        """Return a new certificate for a key of the token, which signs the request for it itself."""
        name = f"{key_id}-{next(_numbers)}"
        (self.folder / "ca.cnf").write_text(PIV.format(upn=upn, fasc_n=FASC_N))
        IssuedCertificate(authority.certificate, authority.key).write(self.folder, name="ca")
        self.run("openssl", "req", "-new", *engine(key_id), "-subj", "/CN=Alice Example", "-out", f"{name}.csr")
        ca = ("-CA", "ca.pem", "-CAkey", "ca-key.pem", "-extfile", "ca.cnf", "-days", "30")
        self.run("openssl", "x509", "-req", "-in", f"{name}.csr", *ca, "-out", f"{name}.pem")
        return self.folder / f"{name}.pem"

    def claim(self, certificate: Path, key_id: str = "01") -> None:
        """Make the token claim that the public key of this certificate belongs to its own private key."""
        der = (str(self.folder / "public.der"), str(self.folder / "certificate.der"))
        pem = self.run("openssl", "x509", "-in", str(certificate), "-pubkey", "-noout")
        (self.folder / "public.pem").write_text(pem)
        self.run("openssl", "pkey", "-pubin", "-in", "public.pem", "-outform", "DER", "-out", der[0])
        self.run("openssl", "x509", "-in", str(certificate), "-outform", "DER", "-out", der[1])
        self.tool("--delete-object", "--type", "pubkey", "--id", key_id)
        self.tool("--write-object", der[0], "--type", "pubkey", "--id", key_id)
        self.tool("--write-object", der[1], "--type", "cert", "--id", key_id)

    def failed_handshake(self, port: int, certificate: Path, version: str) -> str:
        """Return the errors of OpenSSL's client. It sends no request, so it always reads the alert of the server."""
        options = ("-cert", str(certificate), *engine("01"), version, "-ign_eof")
        return self.run("openssl", "s_client", "-connect", f"localhost:{port}", *options, succeeds=False)

    def get(self, address: str, ca: Path, certificate: Path | None, *options: str, key_id: str = "01") -> Response:
        """Send a request with curl, which lets the token sign the handshake. Cookies are kept beside the token."""
        key = ("--engine", "pkcs11", "--key-type", "ENG", "--key", key_uri(key_id))
        done = subprocess.run(
            [
                *(programs.program("curl"), "--disable", "--silent", "--show-error", "--noproxy", "*"),
                *("--max-time", "30", "--cacert", str(ca), "--write-out", "\n%{http_code}"),
                *("--cookie", "cookies", "--cookie-jar", "cookies"),
                *(() if certificate is None else ("--cert", str(certificate), *key)),
                *options,
                address,
            ],
            env=self.environment, cwd=self.folder, stdin=subprocess.DEVNULL, capture_output=True, text=True,
            check=False,
        )  # fmt: skip
        body, _, status = done.stdout.rpartition("\n")
        return Response(int(status), body, done.stderr)


def engine(key_id: str) -> tuple[str, ...]:
    """The options for a key on the token, as OpenSSL's commands have them."""
    return ("-engine", "pkcs11", "-keyform", "engine", "-key", key_uri(key_id))


def key_uri(key_id: str) -> str:
    """The private key on the token (RFC 7512), for OpenSSL's engine and for curl."""
    return f"pkcs11:token=card;id=%{key_id};type=private?pin-value={PIN}"
