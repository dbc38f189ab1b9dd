"""django-oauth-toolkit's authorization server, with the clients and tokens of RFC 8705, under WSGI and ASGI.

Must never know: how a certificate is judged, which is `registry.py`'s to ask. It turns oauthlib's calls into those.

What a token is bound to is the end of its own text: `<random>~x5t-S256~<thumbprint>`. The server looks tokens up by the
digest of the whole text, so the end cannot be changed or cut off; it lives and dies with the token, also where only
digests are stored; and no model changes, there is nothing to migrate, and no row that could be missing. To clients it
is opaque as ever (RFC 6749 1.4), in characters of RFC 6750 2.1.

Rests on the public interfaces of django-oauth-toolkit 3.4 and oauthlib 4.0: the settings `OAUTH2_VALIDATOR_CLASS`,
`OAUTH2_BACKEND_CLASS`, `ACCESS_TOKEN_GENERATOR` and `REFRESH_TOKEN_GENERATOR`; the methods overridden below, which
oauthlib's `RequestValidator` documents, `OAuthLibCore.extract_headers`, `extract_body` and `authenticate_client`, and
`IntrospectTokenView.get_token_response`, of which the first documents none; `Request.headers`, `decoded_body`,
`uri_query`, `client`, `client_id` and `grant_type`. On nothing with an underscore. docs/integrations.md has a project.
"""

import contextlib
import json
from collections.abc import Iterator
from typing import Any, ClassVar
from urllib.parse import parse_qsl

from django.core.exceptions import ImproperlyConfigured
from django.http import JsonResponse
from oauth2_provider.oauth2_backends import OAuthLibCore
from oauth2_provider.oauth2_validators import OAuth2Validator
from oauth2_provider.settings import oauth2_settings
from oauth2_provider.views import IntrospectTokenView
from oauthlib.common import generate_token
from oauthlib.oauth2.rfc6749 import errors

from mtls_middleware.certificate import ClientCertificate
from mtls_middleware.errors import Refused, Unavailable
from mtls_middleware.integrations.registry import ClientRegistry, connection_certificate
from mtls_middleware.request import CERTIFICATE_KEY
from mtls_middleware.resource_server import binding
from mtls_middleware.token_endpoint.authentication import ClientRequest

# Objects of Django and oauthlib are `Any`: neither has type hints.

_MARK = "~x5t-S256~"


class CertificateBackend(OAuthLibCore):
    """Setting `OAUTH2_BACKEND_CLASS`: hands the certificate of each request on to the validator."""

    def extract_headers(self, request: Any) -> dict[str, Any]:
        """Django's `META` and the certificate, under a key that no header can have."""
        headers: dict[str, Any] = super().extract_headers(request)
        headers[CERTIFICATE_KEY] = connection_certificate(request)
        return headers

    def extract_body(self, request: Any) -> list[tuple[str, str]]:
        """The form; a second `client_id` is kept, so that it is seen and refused (RFC 6749 3.2)."""
        repeated = request.POST.getlist("client_id")[:-1]
        return [*(("client_id", each) for each in repeated), *super().extract_body(request)]

    def authenticate_client(self, request: Any) -> bool:
        """For views such as introspection, which take a yes or a no."""
        try:
            return bool(super().authenticate_client(request))
        except errors.OAuth2Error:
            return False


class CertificateValidator(OAuth2Validator):
    """Setting `OAUTH2_VALIDATOR_CLASS`, by a subclass with a `registry`: clients by certificate, tokens bound to it.

    The toolkit's own views, and the protected ones, check that a bound token comes with its certificate. The decorator
    `protected_resource` makes a validator of its own: give it `validator_cls`, or protect the path with
    `CertificateBoundTokenMiddleware`. A class without registry raises `ImproperlyConfigured` when it is made.

    Example: `class Validator(CertificateValidator): registry = ClientRegistry(registered, trust_store=store)`
    """

    registry: ClassVar[ClientRegistry]

    def __init__(self, *args: Any, **options: Any) -> None:
        if not isinstance(getattr(self, "registry", None), ClientRegistry):
            raise ImproperlyConfigured(f"{type(self).__name__}.registry: for example ClientRegistry(registered)")
        super().__init__(*args, **options)

    def client_authentication_required(self, request: Any, *args: Any, **options: Any) -> bool:
        """Whether the client has to authenticate; who registered a certificate always has, a public type or not."""
        if self.registry.demands_certificate(request.client_id):
            return True
        return bool(super().client_authentication_required(request, *args, **options))

    def authenticate_client(self, request: Any, *args: Any, **options: Any) -> bool:
        """By the one method that the client registered, decided before any secret is looked at."""
        with _oauthlib_errors(request):
            registered = self.registry.authenticate(_client_request(request))
        if registered is not None:
            return bool(self.validate_client_id(registered.client_id, request))
        if not super().authenticate_client(request, *args, **options):
            return False
        return not self.registry.demands_certificate(request.client.client_id)

    def authenticate_client_id(self, client_id: str, request: Any, *args: Any, **options: Any) -> bool:
        """Public clients, which have nothing to authenticate by."""
        if self.registry.demands_certificate(client_id):
            return False
        return bool(super().authenticate_client_id(client_id, request, *args, **options))

    def validate_refresh_token(self, refresh_token: str, client: Any, request: Any, *args: Any, **options: Any) -> bool:
        """A public client's refresh token needs its certificate (RFC 8705 4). Without it, nothing is even looked up."""
        with _oauthlib_errors(request):
            cnf = token_binding(refresh_token)
            self.registry.confirm_refresh(client.client_id, cnf, _certificate(request))
        return bool(super().validate_refresh_token(refresh_token, client, request, *args, **options))

    def validate_bearer_token(self, token: str | None, scopes: Any, request: Any) -> bool:
        """A bound access token needs its certificate (RFC 8705 3)."""
        cnf = token_binding(token)
        try:
            binding.confirm({} if cnf is None else {"cnf": cnf}, _certificate(request), "when_present")
        except Refused:
            request.oauth2_error = {"error": "invalid_token"}
            return False
        return bool(super().validate_bearer_token(token, scopes, request))

    def save_bearer_token(self, token: dict[str, Any], request: Any, *args: Any, **options: Any) -> Any:
        """Never saves an unbound token for a client that asks for bound ones."""
        with _oauthlib_errors(request):
            access, refresh = _confirmations(request)
        missing = access not in (None, token_binding(token["access_token"]))
        if missing or ("refresh_token" in token and refresh not in (None, token_binding(token["refresh_token"]))):
            raise ImproperlyConfigured(
                "tokens are not bound: set ACCESS_TOKEN_GENERATOR and REFRESH_TOKEN_GENERATOR in OAUTH2_PROVIDER to "
                f"{__name__}.bound_access_token and .bound_refresh_token"
            )
        return super().save_bearer_token(token, request, *args, **options)


class CertificateIntrospectTokenView(IntrospectTokenView):
    """The introspection view, with `cnf` in the answer for bound tokens (RFC 8705 3.2). Put its path before theirs."""

    @staticmethod
    def get_token_response(token_value: str | None = None) -> Any:
        """The answer for this token."""
        response = IntrospectTokenView.get_token_response(token_value)
        answer, cnf = json.loads(response.content), token_binding(token_value)
        return JsonResponse({**answer, "cnf": cnf}) if answer.get("active") is True and cnf is not None else response


def bound_access_token(request: Any, token: str | None = None) -> str:
    """Setting `ACCESS_TOKEN_GENERATOR`: a token, bound if the client asks for it. Raises oauthlib's errors.

    `token`: the text of a generator of your own, by default a random one.

    Example: `def generator(request): return bound_access_token(request, secrets.token_urlsafe())`
    """
    with _oauthlib_errors(request):
        return _bind(token or generate_token(), _confirmations(request)[0])


def bound_refresh_token(request: Any, token: str | None = None) -> str:
    """Setting `REFRESH_TOKEN_GENERATOR`: the same for refresh tokens, which are bound for public clients alone."""
    with _oauthlib_errors(request):
        return _bind(token or generate_token(), _confirmations(request)[1])


def _bind(token: str, cnf: dict[str, str] | None) -> str:
    return token if cnf is None else f"{token}{_MARK}{cnf['x5t#S256']}"


def token_binding(token: str | None) -> dict[str, str] | None:
    """The `cnf` of a token, from its text; to be believed once the server has found that very text.

    Example: `token_binding("8W7c...~x5t-S256~bwcK0esc3ACC3DB2Y5_lESsXE8o9ltc05O89jdN-dg2")`
    """
    _, mark, thumbprint = (token or "").rpartition(_MARK)
    return {"x5t#S256": thumbprint} if mark else None


def _confirmations(request: Any) -> tuple[dict[str, str] | None, dict[str, str] | None]:
    """For the access and for the refresh token of this request, in a token endpoint.

    Where there is no grant type this is the authorization endpoint: the certificate is the browser's (RFC 8705 6.4).
    """
    registry: ClientRegistry = oauth2_settings.OAUTH2_VALIDATOR_CLASS.registry
    certificate = _certificate(request) if request.grant_type else None
    client_id = request.client.client_id
    return registry.confirmation(client_id, certificate), registry.refresh_confirmation(client_id, certificate)


def _client_request(request: Any) -> ClientRequest:
    authorization = request.headers.get("Authorization")
    return ClientRequest(
        form=request.decoded_body or [],
        query=parse_qsl(request.uri_query, keep_blank_values=True),
        authorization=[] if authorization is None else [authorization],
        certificate=_certificate(request),
    )


def _certificate(request: Any) -> ClientCertificate | None:
    if CERTIFICATE_KEY not in request.headers:
        raise ImproperlyConfigured(f"OAUTH2_PROVIDER['OAUTH2_BACKEND_CLASS']: '{__name__}.CertificateBackend'")
    found = request.headers[CERTIFICATE_KEY]
    return found if isinstance(found, ClientCertificate) else None


class _UnavailableError(errors.TemporarilyUnavailableError):
    def __init__(self, retry_after: int, request: Any) -> None:
        super().__init__(status_code=503, request=request)
        self._retry_after = retry_after

    @property
    def headers(self) -> dict[str, str]:
        return {"Retry-After": str(self._retry_after)}


@contextlib.contextmanager
def _oauthlib_errors(request: Any) -> Iterator[None]:
    """Our refusals as oauthlib writes them."""
    try:
        yield
    except Unavailable as refusal:
        raise _UnavailableError(refusal.retry_after, request) from None
    except Refused as refusal:
        if refusal.code == "invalid_request":
            raise errors.InvalidRequestError(request=request) from None
        if refusal.code == "invalid_grant":
            raise errors.InvalidGrantError(request=request) from None
        raise errors.InvalidClientError(request=request) from None
