"""Extends django-oauth-toolkit's authorization server with the client authentication and bound tokens of RFC 8705.

The module works under WSGI and ASGI. `registry.py` makes the decisions. This module converts oauthlib's calls to calls
of the registry.

A bound token ends with the thumbprint of its certificate: `<random>~x5t-S256~<thumbprint>`. The server looks up tokens
by the digest of the whole string, so a client cannot change or remove the thumbprint. The binding is part of the token,
so the models do not change, no migration is needed, and no token lacks its binding, even if only digests of tokens are
stored. The token stays opaque to clients (RFC 6749 1.4), and has only characters of RFC 6750 2.1.

The module uses only public interfaces of django-oauth-toolkit 3.4 and oauthlib 4.0, and no name with an underscore:

- the settings `OAUTH2_VALIDATOR_CLASS`, `OAUTH2_BACKEND_CLASS`, `ACCESS_TOKEN_GENERATOR`, `REFRESH_TOKEN_GENERATOR`;
- the overridden methods, which oauthlib's `RequestValidator` documents, and these undocumented methods of the toolkit:
  `OAuthLibCore.extract_headers`, `extract_body` and `authenticate_client`, `IntrospectTokenView.get_token_response`;
- `get_access_token_model` and `get_device_grant_model`;
- `Request` with `headers`, `decoded_body`, `uri`, `uri_query`, `http_method`, `client`, `client_id` and `grant_type`.

docs/integrations.md has a complete project.
"""

import contextlib
import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import parse_qsl

from django.core.exceptions import ImproperlyConfigured
from django.db import router, transaction
from django.http import JsonResponse
from oauth2_provider.models import get_access_token_model, get_device_grant_model
from oauth2_provider.settings import oauth2_settings
from oauthlib.common import Request, generate_token, urlencode
from oauthlib.oauth2.rfc6749 import errors

from mtls_middleware import binding
from mtls_middleware.certificate import ClientCertificate
from mtls_middleware.errors import Refused, Unavailable
from mtls_middleware.integrations.django_applications import disagreement
from mtls_middleware.integrations.registry import ClientRegistry, connection_certificate, log_rejection
from mtls_middleware.layers.attached import CERTIFICATE_KEY
from mtls_middleware.token_endpoint.clients import RegisteredClient
from mtls_middleware.token_endpoint.credentials import BASIC, CREDENTIAL_PARAMETERS, POST, PUBLIC, ClientRequest

# Django and oauthlib have no type hints, so their objects are `Any`.
if TYPE_CHECKING:
    from mtls_middleware.integrations.toolkit_interface import IntrospectTokenView, OAuth2Validator, OAuthLibCore
else:
    from oauth2_provider.oauth2_backends import OAuthLibCore
    from oauth2_provider.oauth2_validators import OAuth2Validator
    from oauth2_provider.views import IntrospectTokenView

_SEPARATOR = "~x5t-S256~"
_DEVICE_CODE = "urn:ietf:params:oauth:grant-type:device_code"
# The attribute of oauthlib's request in which the registered client is cached. A client cannot set it, because
# parameters of a request do not become attributes.
_REGISTERED = "mtls_registered_client"
_AUTHORIZATION = ("authorization", "http_authorization")


class CertificateBackend(OAuthLibCore):
    """Passes the certificate of each request to the validator. Name this class in the setting `OAUTH2_BACKEND_CLASS`.

    Example: `"OAUTH2_BACKEND_CLASS": "mtls_middleware.integrations.django_toolkit.CertificateBackend"`
    """

    def extract_headers(self, request: Any) -> dict[str, Any]:
        """Return Django's `META`, and the certificate under a key that no header can have."""
        headers: dict[str, Any] = super().extract_headers(request)
        headers[CERTIFICATE_KEY] = connection_certificate(request)
        return headers

    def extract_body(self, request: Any) -> list[tuple[str, str]]:
        """Return the form fields. Repeated credentials are kept, so that the registry rejects them (RFC 6749 3.2)."""
        repeated = [(name, each) for name in CREDENTIAL_PARAMETERS for each in request.POST.getlist(name)[:-1]]
        return [*repeated, *super().extract_body(request)]

    def authenticate_client(self, request: Any) -> bool:
        """Return whether the client authenticates. Views such as introspection expect `False`, not an exception."""
        try:
            return bool(super().authenticate_client(request))
        except errors.OAuth2Error:
            return False


class CertificateValidator(OAuth2Validator):
    """For the setting `OAUTH2_VALIDATOR_CLASS`: authenticates clients by certificate, and checks bound tokens.

    Write a subclass with the attribute `registry`, and use it in the setting. Without `registry`, creating an object
    raises `ImproperlyConfigured`.

    The toolkit's own views, and the views that it protects, reject a bound token without its certificate. The decorator
    `protected_resource` creates its own validator: pass `validator_cls`, or protect the path with
    `CertificateBoundTokenMiddleware`.

    Example: `class Validator(CertificateValidator): registry = ClientRegistry(registered, trust_store=store)`
    """

    registry: ClassVar[ClientRegistry]

    def __init__(self, *args: Any, **options: Any) -> None:
        if not isinstance(getattr(self, "registry", None), ClientRegistry):
            raise ImproperlyConfigured(
                f"{type(self).__name__}.registry: expected a ClientRegistry, for example ClientRegistry(registered)"
            )
        super().__init__(*args, **options)

    def client_authentication_required(self, request: Any, *_: Any, **__: Any) -> bool:
        """Return whether the client must authenticate. This depends only on the method that the client registered."""
        return self._registered(request).token_endpoint_auth_method != PUBLIC

    def authenticate_client(self, request: Any, *args: Any, **options: Any) -> bool:
        """Authenticate the client by the method that it registered, and by no other method."""
        registered = self._registered(request)
        method = registered.token_endpoint_auth_method
        if method == PUBLIC:
            return False
        if method in (BASIC, POST):
            reduced_request = _with_credentials_of(method, request)
            if not super().authenticate_client(reduced_request, *args, **options):
                return False
            request.client = reduced_request.client
        elif not self.validate_client_id(registered.client_id, request):
            return False
        return bool(request.client.client_id == registered.client_id)

    def authenticate_client_id(self, client_id: str, request: Any, *args: Any, **options: Any) -> bool:
        """Accept a client without authentication if it registered the method `none`. Reject every other client."""
        registered = self._registered(request)
        if registered.token_endpoint_auth_method != PUBLIC or registered.client_id != client_id:
            return False
        return bool(super().authenticate_client_id(client_id, request, *args, **options))

    def _registered(self, request: Any) -> RegisteredClient:
        """Return the registration of the client that the request names. Raises oauthlib's errors.

        The result is cached in the request, because oauthlib calls several methods for one request.
        """
        registered: RegisteredClient | None = vars(request).get(_REGISTERED)
        if registered is None:
            with _oauthlib_errors(request):
                registered = self.registry.identify(_client_request(request))
                client_id = registered.client_id
                if not self.validate_client_id(client_id, request):
                    self.registry.reject(_certificate(request), f"client {client_id!r}: no usable application")
                reason = disagreement(request.client, registered)
                if reason is not None:
                    self.registry.reject(_certificate(request), reason)
            setattr(request, _REGISTERED, registered)
        return registered

    def validate_grant_type(
        self, client_id: str, grant_type: str, client: Any, request: Any, *args: Any, **options: Any
    ) -> bool:
        """Return whether the client may use the grant. A device code is valid only for its client (RFC 8628 3.4).

        The toolkit does not check this, so a public client could use the device code of a client that must
        authenticate.
        """
        if grant_type == _DEVICE_CODE:
            code = dict(request.decoded_body).get("device_code")
            issued = get_device_grant_model().objects.filter(device_code=code).first()
            if issued is None or issued.client_id != request.client.client_id:
                with _oauthlib_errors(request), log_rejection(_certificate(request)):
                    raise Refused("invalid_grant", "the device code is unknown or was issued to another client")
        return bool(super().validate_grant_type(client_id, grant_type, client, request, *args, **options))

    def validate_refresh_token(self, refresh_token: str, client: Any, request: Any, *args: Any, **options: Any) -> bool:
        """Check the certificate for a public client's bound refresh token (RFC 8705 4), then look up the token."""
        with _oauthlib_errors(request):
            cnf = token_binding(refresh_token)
            self.registry.confirm_refresh(client.client_id, cnf, _certificate(request))
        return bool(super().validate_refresh_token(refresh_token, client, request, *args, **options))

    def validate_bearer_token(self, token: str | None, scopes: Any, request: Any) -> bool:
        """Check the certificate for a bound access token (RFC 8705 3), then look up the token."""
        cnf = token_binding(token)
        try:
            binding.confirm({} if cnf is None else {"cnf": cnf}, _certificate(request), "when_present")
        except Refused:
            request.oauth2_error = {"error": "invalid_token"}
            return False
        return bool(super().validate_bearer_token(token, scopes, request))

    def save_bearer_token(self, token: dict[str, Any], request: Any, *args: Any, **options: Any) -> Any:
        """Save the tokens of this request, and check that they are bound if the client registered for bound tokens.

        Within `REFRESH_TOKEN_GRACE_PERIOD_SECONDS`, the toolkit returns the tokens of an earlier request. If these
        tokens are bound to a different certificate, this method raises oauthlib's `InvalidGrantError`.
        """
        with _oauthlib_errors(request):
            access, refresh = _confirmations(request)
        is_unbound = access not in (None, token_binding(token["access_token"]))
        if is_unbound or ("refresh_token" in token and refresh not in (None, token_binding(token["refresh_token"]))):
            raise ImproperlyConfigured(
                "the new tokens are not bound: set ACCESS_TOKEN_GENERATOR and REFRESH_TOKEN_GENERATOR in "
                f"OAUTH2_PROVIDER to '{__name__}.bound_access_token' and '{__name__}.bound_refresh_token'"
            )
        with transaction.atomic(using=router.db_for_write(get_access_token_model())):
            saved = super().save_bearer_token(token, request, *args, **options)
            bound = token_binding(token["access_token"]), token_binding(token.get("refresh_token"))
            if bound[0] != access or ("refresh_token" in token and refresh not in (None, bound[1])):
                with _oauthlib_errors(request), log_rejection(_certificate(request)):
                    raise Refused(
                        "invalid_grant",
                        "the refresh token was used before, and its new tokens are bound to another certificate",
                    )
        return saved


class CertificateIntrospectTokenView(IntrospectTokenView):
    """Extends the toolkit's introspection view: the response for a bound token contains `cnf` (RFC 8705 3.2).

    In `urlpatterns`, put the path of this view before the paths of the toolkit.

    Example: `path("o/introspect/", CertificateIntrospectTokenView.as_view())`
    """

    @staticmethod
    def get_token_response(token_value: str | None = None) -> Any:
        """Return the introspection response, with `cnf` if the token is active and bound."""
        response = IntrospectTokenView.get_token_response(token_value)
        payload, cnf = json.loads(response.content), token_binding(token_value)
        return JsonResponse({**payload, "cnf": cnf}) if payload.get("active") is True and cnf is not None else response


def bound_access_token(request: Any, token: str | None = None) -> str:
    """For the setting `ACCESS_TOKEN_GENERATOR`: returns a token, bound if the client registered for bound tokens.

    `token`: a string from your own generator; by default, a random string. Raises oauthlib's errors.

    Example: `def generator(request): return bound_access_token(request, secrets.token_urlsafe())`
    """
    with _oauthlib_errors(request):
        return _bind(token or generate_token(), _confirmations(request)[0])


def bound_refresh_token(request: Any, token: str | None = None) -> str:
    """For the setting `REFRESH_TOKEN_GENERATOR`: returns a refresh token, bound if a public client registered for that.

    The refresh tokens of other clients are not bound, because these clients must authenticate when they use a refresh
    token (RFC 8705 4).

    `token`: as in `bound_access_token`.

    Example: `"REFRESH_TOKEN_GENERATOR": "mtls_middleware.integrations.django_toolkit.bound_refresh_token"`
    """
    with _oauthlib_errors(request):
        return _bind(token or generate_token(), _confirmations(request)[1])


def _bind(token: str, cnf: dict[str, str] | None) -> str:
    return token if cnf is None else f"{token}{_SEPARATOR}{cnf['x5t#S256']}"


def token_binding(token: str | None) -> dict[str, str] | None:
    """Return the `cnf` at the end of a token; `None` for an unbound token.

    Trust the `cnf` only if the whole token is in the server's database.

    Example: `token_binding("8W7c...~x5t-S256~bwcK0esc3ACC3DB2Y5_lESsXE8o9ltc05O89jdN-dg2")`
    """
    _, separator, thumbprint = (token or "").rpartition(_SEPARATOR)
    return {"x5t#S256": thumbprint} if separator else None


def _confirmations(request: Any) -> tuple[dict[str, str] | None, dict[str, str] | None]:
    """Return the `cnf` of the access token and of the refresh token for this request.

    At the authorization endpoint, the certificate is the browser's, so it is ignored (RFC 8705 6.4). Requests to this
    endpoint have a `response_type`. They may also have a `grant_type` in the query. The registration is checked again
    here, because clients do not authenticate at the authorization endpoint.
    """
    registry: ClientRegistry = oauth2_settings.OAUTH2_VALIDATOR_CLASS.registry
    certificate = _certificate(request) if request.grant_type and not request.response_type else None
    client_id = request.client.client_id
    registered = registry.look_up(client_id)
    reason = None if registered is None else disagreement(request.client, registered)
    if reason is not None:
        registry.reject(certificate, reason)
    return registry.confirmation(client_id, certificate), registry.refresh_confirmation(client_id, certificate)


def _with_credentials_of(method: str, request: Any) -> Request:
    """Return a copy of the request that has only the credentials for `method`, so that the toolkit uses no others.

    The toolkit tries Basic and then the body, treats a missing secret as an empty secret, and does not verify the
    secret of a public client for the device grant. It decodes Basic with the charset in the query parameter `encoding`,
    so the copy has no query.
    """
    headers = {name: value for name, value in request.headers.items() if name.lower() not in _AUTHORIZATION}
    body: list[tuple[str, str]] = []
    if method == BASIC:
        _, _, credentials = request.headers["Authorization"].strip().partition(" ")
        headers["Authorization"] = headers["HTTP_AUTHORIZATION"] = f"Basic {credentials.strip()}"
    else:
        body = [(name, value) for name, value in request.decoded_body if name in ("client_id", "client_secret")]
    return Request(request.uri.partition("?")[0], request.http_method, urlencode(body), headers)


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
        raise ImproperlyConfigured(f"set OAUTH2_PROVIDER['OAUTH2_BACKEND_CLASS'] to '{__name__}.CertificateBackend'")
    certificate = request.headers[CERTIFICATE_KEY]
    return certificate if isinstance(certificate, ClientCertificate) else None


class _UnavailableError(errors.TemporarilyUnavailableError):
    def __init__(self, retry_after: int, request: Any) -> None:
        super().__init__(status_code=503, request=request)
        self._retry_after = retry_after

    @property
    def headers(self) -> dict[str, str]:
        return {"Retry-After": str(self._retry_after)}


@contextlib.contextmanager
def _oauthlib_errors(request: Any) -> Iterator[None]:
    """Convert `Refused` to oauthlib's errors."""
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
