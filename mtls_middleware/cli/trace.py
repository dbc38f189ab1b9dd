"""Runs the real decision about one request, and records what each step saw and decided.

The layers, the source, the trust store, the rules and the token validator are copies that record what they return or
raise. The copies do not decide, so the steps, their order and their results are those of a real request.
"""

import copy
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from typing import Any

from mtls_middleware.certificate import ClientCertificate
from mtls_middleware.effects.flow import Flow
from mtls_middleware.errors import ConfigurationError, MalformedCertificate, Refused
from mtls_middleware.layers.absence import reason
from mtls_middleware.layers.certificate import CertificateLayer
from mtls_middleware.layers.interface import LayerRequest, Route
from mtls_middleware.layers.token import TokenLayer
from mtls_middleware.request import RequestView
from mtls_middleware.resource_server.token import AccessToken
from mtls_middleware.rule import Result, Rule
from mtls_middleware.sources.api_gateway import AWSAPIGateway, api_gateway_event
from mtls_middleware.sources.header import HeaderSource
from mtls_middleware.sources.server import ServerTLS

_LAYER_NAMES = {"certificate": "certificate layer", "token": "token layer", "client": "client layer"}


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a decision.

    Attributes:
        step: the name of the step.
        saw: the data that the step read, without tokens and secrets.
        decision: the result in a few words.
        why: the reason for the decision, or an empty string.
        change: what would change the result; `None` if the step does not know.
    """

    step: str
    saw: str
    decision: str
    why: str | None = None
    change: str | None = None


class Trace:
    """The steps of one decision. The method `layers` returns copies of layers, and these copies append to `steps`."""

    def __init__(self) -> None:
        self.steps: list[Step] = []

    def layers(self, layers: tuple[Any, ...]) -> tuple[Any, ...]:
        """Return copies of these layers that record their steps here. Example: `Stack(trace.layers(...), reader)`"""
        return tuple(_Layer(self._with_parts(layer), self) for layer in layers)

    def add(self, step: str, saw: str, decision: str, why: str | None = None, change: str | None = None) -> None:
        """Add a step to the trace of the decision."""
        self.steps.append(Step(step, saw, decision, why, change))

    def rejected(self, step: str, saw: str, error: Exception) -> None:
        """Add a step that rejects the request with this exception."""
        if not isinstance(error, Refused):
            # The messages of other exceptions are left out, as in the log, because they may contain a secret.
            is_ours = isinstance(error, ConfigurationError)
            self.add(step, saw, "failed: server_error", f"{type(error).__name__}{f': {error}' if is_ours else ''}")
            return
        why = [*error.evidence]
        why += [f"found {name}: {value!a}" for name, value in error.found.items()]
        why += [f"expected {name}: {value!a}" for name, value in error.expected.items()]
        self.add(step, saw, f"rejected: {error.code}", "; ".join(why), error.advice)

    def _with_parts(self, layer: Any) -> Any:
        parts = copy.copy(layer)
        if isinstance(parts, CertificateLayer):
            parts.source = _Source(parts.source, self)
            if parts._store is not None:
                parts._store = _Validator(parts._store, self, "certification path", _certificate, _certificate)
            if parts._allow is not None:
                parts._allow = rules = copy.copy(parts._allow)
                rules.rules = tuple(_Rule(rule, self) if isinstance(rule, Rule) else rule for rule in rules.rules)
        if isinstance(parts, TokenLayer):
            parts._tokens = _Validator(parts._tokens, self, "access token", _token_string, _token)
        return parts


class _Part:
    """A copy of a part of a layer. It has the attributes of the original."""

    def __init__(self, part: Any, trace: Trace) -> None:
        self._part, self._trace = part, trace

    def __getattr__(self, name: str) -> Any:
        return getattr(self._part, name)

    def __repr__(self) -> str:
        return repr(self._part)


class _Layer(_Part):
    facts = None  # the trace also reads facts that the layer itself does not read

    def route(self, request: LayerRequest) -> Route:
        try:
            route: Route = self._part.route(request)
        except Refused as refusal:
            self._trace.rejected("path", f"{request.method} {request.path!a}", refusal)
            raise
        if route.exempt:
            self._trace.add(
                f"{_LAYER_NAMES[self._part.name]}: path", f"{request.method} {request.path!a}", "exempt",
                "this layer rejects no request here", "remove the path from exempt=",
            )  # fmt: skip
        return route

    def document(self, request: LayerRequest) -> Any:
        try:
            found = self._part.document(request)
        except Refused as refusal:
            self._trace.rejected("metadata document", f"{request.method} {request.path!a}", refusal)
            raise
        if found is not None:
            self._trace.add("metadata document", request.path, "served", "resource_metadata= has this path (RFC 9728)")
        return found

    def decide(self, request: LayerRequest, route: Route) -> Flow[Any]:
        name, before = _LAYER_NAMES[self._part.name], len(self._trace.steps)
        try:
            decided = yield from self._part.decide(request, route)
        except Exception as error:
            last = self._trace.steps[-1] if len(self._trace.steps) > before else None
            if last is None or not last.decision.startswith(("rejected", "failed")):
                self._trace.rejected(name, _seen_by(name, request), error)
            raise
        self._trace.add(name, _seen_by(name, request), *_attached(decided.value))
        return decided


class _Source(_Part):
    def find(self, view: RequestView) -> ClientCertificate | None:
        saw = "; ".join(_facts(self._part, view))
        try:
            found: ClientCertificate | None = self._part.find(view)
        except Exception as error:
            self._trace.rejected("source", saw, error)
            raise
        if found is None:
            absence = reason(self._part, view)
            why, change = (None, None) if absence is None else (absence.evidence, absence.advice)
            self._trace.add("source", saw, "no certificate", why, change)
        else:
            self._trace.add("source", saw, f"certificate, {found.verification.name}", _certificate(found))
        return found


class _Validator(_Part):
    """A trust store or a token validator that records its result.

    `saw` and `result`: functions that describe its argument and its result.
    """

    def __init__(
        self, part: Any, trace: Trace, step: str, saw: Callable[[Any], str], result: Callable[[Any], str]
    ) -> None:
        super().__init__(part, trace)
        self._step, self._saw, self._result = step, saw, result

    def validate(self, given: Any, now: float) -> Flow[Any]:
        try:
            found = self._part.validate(given, now)
            if isinstance(found, Generator):
                found = yield from found
        except Exception as error:
            self._trace.rejected(self._step, self._saw(given), error)
            raise
        self._trace.add(self._step, self._saw(given), "accepted", self._result(found))
        return found


class _Rule(Rule):
    """A rule that records its result. It never allows that its result is cached."""

    def __init__(self, rule: Rule, trace: Trace) -> None:
        self._rule, self._trace = rule, trace
        self.depth = rule.depth
        self.may_accept_presented = rule.may_accept_presented
        self.may_reject_presented = rule.may_reject_presented

    def judge(self, certificate: ClientCertificate) -> Result:
        return self._rule.judge(certificate)

    def holds(self, certificate: ClientCertificate) -> bool:
        saw = _certificate(certificate)
        try:
            found = self._rule.holds(certificate)
        except Exception as error:
            self._trace.rejected("rule", saw, error)
            raise
        self._trace.add("rule", saw, "allowed" if found else "not allowed", f"allow={self._rule!r}")
        return found

    def near_miss(self, certificate: ClientCertificate) -> str | None:
        return self._rule.near_miss(certificate)

    def __repr__(self) -> str:
        return repr(self._rule)


def _facts(source: Any, view: RequestView) -> Iterator[str]:
    """Yield a description of the peer and of each field that a source reads: its length, or whether it is present."""
    peer = view.peer
    yield "peer " + (peer.address or ("a unix socket" if peer.unix else "without an address"))
    if isinstance(source, HeaderSource):
        for name in sorted(source.drop_headers):
            values = view.headers(name)
            sizes = " and ".join(f"{len(value)} characters" for value in values)
            is_secret = name == source._trust.secret_header
            yield f"{name}: {('present' if is_secret else sizes) if values else 'absent'}"
    if isinstance(source, AWSAPIGateway):
        yield "no Lambda event" if api_gateway_event(view.tls) is None else "a Lambda event"
    if isinstance(source, ServerTLS):
        present = view.tls.extension is not None or "SSL_CLIENT_CERT" in (view.tls.environ or {})
        yield "TLS data of the server" if present else "no TLS data of the server"


def _seen_by(name: str, request: LayerRequest) -> str:
    certificate = request.attached.certificate or request.attached.presented
    described = "no client certificate" if certificate is None else f"client certificate {certificate.thumbprint}"
    if name != "token layer":
        return described
    return f"{'an' if request.headers('authorization') else 'no'} Authorization field; {described}"


def _certificate(certificate: ClientCertificate) -> str:
    try:
        names = [f"subject {certificate.subject!a}" if certificate.subject else "empty subject"]
        names += [f"DNS {each!a}" for each in certificate.dns_names]
        names += [f"URI {each!a}" for each in certificate.uris]
        names.append(f"valid until {certificate.not_valid_after:%Y-%m-%d %H:%M} UTC")
    except MalformedCertificate as error:
        names = [f"names that cannot be read: {error.evidence[0]}"]
    return "; ".join([certificate.thumbprint, *names])


def _token_string(text: str) -> str:
    return f"a token of {len(text)} characters"


def _token(token: AccessToken) -> str:
    claims = token.claims
    shown = {name: claims[name] for name in ("iss", "aud", "client_id", "scope") if name in claims}
    confirmation = claims.get("cnf")
    if isinstance(confirmation, dict):
        shown["cnf"] = confirmation.get("x5t#S256")
    return "; ".join(f"{name} {value!a}" for name, value in shown.items())


def _attached(value: Any) -> tuple[str, str | None]:
    match value:
        case None:
            return "accepted", "nothing is attached"
        case ClientCertificate():
            return "accepted", f"attached: certificate {value.thumbprint}, {value.verification.name}"
        case AccessToken():
            binding = "bound to the client certificate" if value.bound else "not bound to a certificate"
            return "accepted", f"attached: the token of client {value.client_id!a}, {binding}"
    return "accepted", f"attached: {type(value).__name__}"
