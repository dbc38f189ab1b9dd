"""The shared parts of the tour: steps, responses, the state of the tour, and their output."""

import json
import secrets
import ssl
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from mtls_middleware.testing import CertificateAuthority, IssuedCertificate

# Errors in the body of the response, without a challenge (RFC 6749 5.2, and certificate errors).
ERRORS_IN_BODY = {"invalid_client", "invalid_grant", "client_certificate_required", "client_certificate_refused"}
console = Console(highlight=False, soft_wrap=True)


@dataclass(frozen=True)
class Step:
    """One request and its expected response. `certificate` and `token` are keys of the dictionaries in `World`."""

    title: str
    status: int
    error: str | None = None
    certificate: str | None = None
    token: str | None = None
    headers: dict[str, str] = field(default_factory=dict)
    path: str = "/invoices"
    text: str | None = None  # a part of the body


@dataclass(frozen=True)
class Response:
    """The response to a step."""

    status: int
    challenge: str = ""
    body: str = ""

    def matches(self, step: Step) -> bool:
        """Whether the status and the error code are those that the step expects."""
        if self.status != step.status:
            return False
        if step.text is not None:
            return step.text in self.body
        if step.error in ERRORS_IN_BODY:
            return bool(json.loads(self.body)["error"] == step.error)
        error = f'error="{step.error}"' in self.challenge if step.error else "error=" not in self.challenge
        return error and bool(self.challenge) == (step.status in (401, 403))


@dataclass
class World:
    """The state of the tour: files, certificates, tokens and servers."""

    directory: Path
    authority: CertificateAuthority = field(default_factory=lambda: CertificateAuthority("CN=Tour CA"))
    certificates: dict[str, IssuedCertificate] = field(default_factory=dict)
    tokens: dict[str, str] = field(default_factory=dict)
    refresh_token: str = ""
    legacy_secret: str = field(default_factory=secrets.token_urlsafe)
    expired_at: float = 0.0
    issuer: str = ""
    urls: list[str] = field(default_factory=list)

    def context(self, certificate: str | None) -> ssl.SSLContext:
        return self.authority.client_context(self.certificates[certificate] if certificate else None)


def show(step: Step, response: Response) -> bool:
    """Print the request and the response. Return whether the response is as expected."""
    is_expected = response.matches(step)
    sent = [request_line(step), f"certificate [green]{step.certificate}[/]" if step.certificate else "no certificate"]
    if not sent[0].startswith("POST") and step.path == "/invoices":
        sent.append(f"token of [yellow]{step.token}[/]" if step.token else "no token")
    sent += [f"[red]{name}: {value[:28]}{'…' * (len(value) > 28)}[/]" for name, value in step.headers.items()]
    mark, color = ("✔", "green") if is_expected else ("✘", "red")
    console.print(f"\n[{color}]{mark}[/] [bold]{step.title}[/]")
    console.print(f"  → {'  '.join(sent)}")
    console.print(
        f"  ← [bold {color}]{response.status}[/]  {escape(response.challenge or step.text or response.body[:120])}"
    )
    if not is_expected:
        console.print(f"    [red]expected {step.status} {step.error or ''}[/]")
    return is_expected


def request_line(step: Step) -> str:
    if "websocket" in step.title:
        return "GET /live"
    if step.error in ("invalid_client", "invalid_grant") or "refresh" in step.title:
        return f"POST /token  client_id=[yellow]{step.token}[/]"
    return f"GET {step.path}"
