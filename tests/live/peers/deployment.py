"""The samples as a deployment with real TLS: certificates, registered clients, authorization server and both APIs."""

import base64
import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jwt

from mtls_middleware.testing import CertificateAuthority, IssuedCertificate, self_signed
from tests.live.peers import node
from tests.live.servers import free_port, running, tls_files

REDIRECT_URI = "http://127.0.0.1/callback"
# Each character that a client encodes in HTTP Basic (RFC 6749 2.3.1), among them ":" and "%".
SECRET = "a-b_c.d:e%f+g/h=i j~k!"
NAMES = ("Flask on gunicorn", "Starlette on uvicorn")


@dataclass(frozen=True)
class Deployment:
    """Where everything is. Certificates go by the names that `certificates()` gives them."""

    directory: Path
    authority: CertificateAuthority
    certificates: dict[str, IssuedCertificate]
    issuer: str
    aliases: str
    apis: dict[str, str]
    client: node.Answering = field(repr=False)

    def ask(
        self,
        library: str,
        action: str,
        client_id: str | None,
        certificate: str | None,
        *,
        method: str = "TlsClientAuth",
        aliases: bool = True,
        metadata: dict[str, Any] | None = None,
        **more: Any,
    ) -> tuple[Any, list[str]]:
        """The result of one action of an npm library, and the URLs that the library requested.

        Arguments:
            action: the name of an action in client.mjs. `more`: its settings.
            client_id: the client that acts; `None` for a client that registers itself with `metadata`.
            certificate: the name of its certificate; `None` for a connection without a certificate.
            method: the client authentication method, by the name that both libraries use.
            aliases: whether the client uses `mtls_endpoint_aliases` (RFC 8705 5).
        """
        tls = {"ca": self.authority.pem}
        if certificate is not None:
            own = self.certificates[certificate]
            tls |= {"cert": own.chain_pem, "key": own.key_pem}
        client = {**(metadata or {"client_id": client_id}), "use_mtls_endpoint_aliases": aliases}
        settings = {"library": library, "action": action, "issuer": self.issuer, "tls": tls, "client": client}
        report = self.client({**settings, "method": method, "redirect_uri": REDIRECT_URI, **more})
        return report["answer"], report["requests"]


def certificates(authority: CertificateAuthority) -> dict[str, IssuedCertificate]:
    """Two of them renewed, with the same key: another certificate all the same (RFC 8705 6.3)."""
    billing, statistics = authority.issue("CN=billing,O=Acme", dns=["billing.internal"]), self_signed("CN=statistics")
    return {
        "billing": billing,
        "billing renewed": authority.issue("CN=billing,O=Acme", dns=["billing.internal"], key=billing.key),
        "api": authority.issue("CN=api,O=Acme", dns=["api.internal"]),
        "desktop": authority.issue("CN=alice's desktop,O=Acme"),
        "statistics": statistics,
        "statistics renewed": self_signed("CN=statistics renewed", key=statistics.key),
        "pretender": self_signed("CN=billing,O=Acme", dns=["billing.internal"]),
    }


def jwks(certificate: IssuedCertificate) -> dict[str, Any]:
    """The JWK Set that registers a self-signed certificate (RFC 8705 2.2.2)."""
    key = jwt.get_algorithm_by_name("ES256").to_jwk(certificate.x509.public_key(), as_dict=True)
    return {"keys": [{**key, "x5c": [base64.b64encode(certificate.der).decode()]}]}


def clients(known: dict[str, IssuedCertificate]) -> list[dict[str, Any]]:
    """One client of each method, as RFC 7591 and RFC 8705 name their metadata; all for the scope of the samples."""
    by_method: dict[str, dict[str, Any]] = {
        "billing": {"token_endpoint_auth_method": "tls_client_auth", "tls_client_auth_subject_dn": "CN=billing,O=Acme"},
        "statistics": {
            "token_endpoint_auth_method": "self_signed_tls_client_auth",
            "jwks": jwks(known["statistics"]),
        },
        "desktop": {"token_endpoint_auth_method": "none"},
        "legacy": {"client_secret": SECRET},
    }
    common = {"scope": "invoices:read", "redirect_uris": [REDIRECT_URI]}
    return [{"client_id": client_id, **common, **own} for client_id, own in by_method.items()]


def certificate_files(directory: Path) -> tuple[CertificateAuthority, dict[str, IssuedCertificate]]:
    """The TLS files of servers and clients; `let-in.pem` is what TLS accepts: the CA, and each self-signed certificate.

    So it is the middleware, and not TLS, that tells one client from another.
    """
    authority = CertificateAuthority("CN=Acme CA")
    tls_files(authority, directory)
    known = certificates(authority)
    own = [each.pem for each in known.values() if each.x509.issuer == each.x509.subject]
    (directory / "let-in.pem").write_text(authority.pem + "".join(own))
    for name, certificate in known.items():
        certificate.write(directory, name=name)
    return authority, known


def gunicorn(app: str, port: int, directory: Path) -> list[str]:
    return [
        *("-m", "gunicorn", app, "--bind", f"127.0.0.1:{port}", "--no-control-socket"),
        *("--worker-class", "gthread", "--threads", "4", "--cert-reqs", "1", "--ca-certs", f"{directory}/let-in.pem"),
        *("--certfile", f"{directory}/server.pem", "--keyfile", f"{directory}/server-key.pem"),
    ]


def uvicorn(app: str, port: int, directory: Path) -> list[str]:
    return [
        *("-m", "uvicorn", app, "--host", "127.0.0.1", "--port", str(port), "--no-proxy-headers"),
        *("--http", "mtls_middleware.servers.uvicorn_tls:HTTPTools"),
        *("--ssl-cert-reqs", "1", "--ssl-ca-certs", f"{directory}/let-in.pem"),
        *("--ssl-certfile", f"{directory}/server.pem", "--ssl-keyfile", f"{directory}/server-key.pem"),
    ]


@contextlib.contextmanager
def deployed(directory: Path) -> Iterator[Deployment]:
    """The sample authorization server on two ports, and the sample APIs, until the end of the block."""
    authority, known = certificate_files(directory)
    (directory / "clients.json").write_text(json.dumps(clients(known)))
    port, alias_port, *api_ports = (free_port() for _ in range(4))
    issuer, aliases = f"https://localhost:{port}", f"https://localhost:{alias_port}"
    environment = {
        "ISSUER": issuer,
        "ALIASES": aliases,
        "CLIENTS": f"{directory}/clients.json",
        "CA": f"{directory}/ca.pem",
        "SSL_CERT_FILE": f"{directory}/ca.pem",  # for the APIs, which fetch the issuer's keys
    }
    commands = (
        (["-m", "tests.live.peers.two_ports", str(port), str(alias_port), str(directory)], port),
        (gunicorn("samples.flask_app:app", api_ports[0], directory), api_ports[0]),
        (uvicorn("samples.starlette_app:app", api_ports[1], directory), api_ports[1]),
    )
    with contextlib.ExitStack() as servers:
        for command, listening in commands:
            servers.enter_context(running(command, listening, **environment))
        apis = {name: f"https://localhost:{each}" for name, each in zip(NAMES, api_ports, strict=True)}
        client = servers.enter_context(node.answering("client.mjs"))
        yield Deployment(directory, authority, known, issuer, aliases, apis, client)
