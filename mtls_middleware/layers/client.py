"""`ClientLayer`: authenticates OAuth clients by certificate at a token endpoint (RFC 8705 section 2)."""

from collections.abc import Collection
from typing import Any
from urllib.parse import parse_qsl

from mtls_middleware import options
from mtls_middleware.cache import Cache, caches_of
from mtls_middleware.effects.flow import Flow
from mtls_middleware.errors import NO_CERTIFICATE, ConfigurationError, Refused
from mtls_middleware.layers.absence import with_absence
from mtls_middleware.layers.interface import Facts, LayerRequest, Route
from mtls_middleware.layers.paths import PathSet, checked_root
from mtls_middleware.responses import Challenge, LayerResponse
from mtls_middleware.reusable import Reusable, once
from mtls_middleware.token_endpoint.authentication import ClientAuthenticator
from mtls_middleware.token_endpoint.clients import RegisteredClient
from mtls_middleware.token_endpoint.credentials import ClientRequest

# Fields of a form.
_MAX_FIELDS = 200


class ClientLayer:
    """Authenticates OAuth clients by certificate on the paths where they authenticate."""

    name = "client"
    challenge: Challenge = Challenge(schemes=("Basic",), realm="clients")
    drop_headers: frozenset[str] = frozenset()
    vary: str | None = None
    depends_on_path = True
    facts: Facts | None = None  # the layer reads the body, so its decisions are never cached
    fixed_route: Route | None = Route()
    cache_size: int | None = None

    def __init__(
        self, authenticator: ClientAuthenticator, *, paths: Collection[str], root_path: str | None = None
    ) -> None:
        options.object_with_method("authenticator", authenticator, "decide", "ClientAuthenticator(clients)")
        self._authenticator = authenticator
        self.body_paths: PathSet = PathSet("paths", paths)
        self.root_path: str | None = checked_root(root_path)
        if not self.body_paths:
            raise ConfigurationError(
                "paths is empty, so no client would be authenticated; expected a list of paths, for example ['/token']"
            )

    @property
    def caches(self) -> tuple[Cache[Any, Any], ...]:
        """The caches of the authenticator, which share the memory of the stack."""
        return caches_of(self._authenticator)

    def document(self, request: LayerRequest) -> LayerResponse | None:  # noqa: ARG002 (this layer serves no document)
        return None

    def route(self, request: LayerRequest) -> Route:  # noqa: ARG002 (see `fixed_route`)
        return Route()

    def decide(self, view: LayerRequest, route: Route) -> Flow[Reusable[RegisteredClient | None]]:  # noqa: ARG002 (see `fixed_route`)
        return once((yield from self._decide(view)))

    def _decide(self, view: LayerRequest) -> Flow[RegisteredClient | None]:
        outer = view.attached
        if not outer.has_certificate_layer:
            raise ConfigurationError(
                "ClientAuthenticationMiddleware found no ClientCertificateMiddleware outside of it: exchange the two "
                "layers, ClientCertificateMiddleware(ClientAuthenticationMiddleware(app, ...), ...)"
            )
        if not self.body_paths.covers(view):
            return outer.client  # keep the client that an outer ClientLayer may have attached
        if view.method != "POST":
            raise Refused(
                "method_not_allowed",
                f"the method is {view.method}; a path where clients authenticate accepts only POST",
            )
        request = ClientRequest(
            form=_form(view),
            certificate=outer.certificate,
            query=_pairs(view.query.encode("latin-1", "replace")),
            authorization=view.headers("authorization"),
        )
        try:
            client = yield from self._authenticator.decide(request, view.now)
        except Refused as refusal:
            raise with_absence(refusal, outer) if NO_CERTIFICATE in refusal.evidence else refusal from None
        return outer.client if client is None else client


def _form(view: LayerRequest) -> list[tuple[str, str]]:
    types = view.headers("content-type")
    media_type, _, parameters = (types[0] if len(types) == 1 else "").partition(";")
    charset = parameters.strip().lower().replace('"', "")
    if media_type.strip().lower() != "application/x-www-form-urlencoded" or charset not in ("", "charset=utf-8"):
        raise Refused("invalid_request", "the body is not a form in UTF-8 (RFC 6749 appendix B)")
    return _pairs(view.body)


def _pairs(encoded: bytes) -> list[tuple[str, str]]:
    """Return all names and values of a form (RFC 6749 appendix B), including repeated names and empty values."""
    try:
        return parse_qsl(encoded.decode("utf-8"), keep_blank_values=True, errors="strict", max_num_fields=_MAX_FIELDS)
    except ValueError:
        raise Refused(
            "invalid_request", f"the form is malformed, is not in UTF-8, or has more than {_MAX_FIELDS} fields"
        ) from None
