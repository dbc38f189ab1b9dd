"""django-oauth-toolkit's authorization server, with the clients and tokens of RFC 8705, under WSGI and ASGI.

`registry.py` decides. This module turns oauthlib's calls into its calls.

What a token is bound to is the end of its own text: `<random>~x5t-S256~<thumbprint>`. The server looks tokens up by the
digest of the whole text, so the end cannot be changed or cut off; it lives and dies with the token, also where only
digests are stored; and no model changes, there is nothing to migrate, and no row that could be missing. To clients it
is opaque as ever (RFC 6749 1.4), in characters of RFC 6750 2.1.

Rests on the public interfaces of django-oauth-toolkit 3.4 and oauthlib 4.0: the settings `OAUTH2_VALIDATOR_CLASS`,
`OAUTH2_BACKEND_CLASS`, `ACCESS_TOKEN_GENERATOR` and `REFRESH_TOKEN_GENERATOR`; the methods overridden below, which
oauthlib's `RequestValidator` documents, `OAuthLibCore.extract_headers`, `extract_body` and `authenticate_client`, and
`IntrospectTokenView.get_token_response`, of which the first documents none; `get_access_token_model` and
`get_device_grant_model`; `Request` with `headers`, `decoded_body`, `uri`, `uri_query`, `http_method`, `client`,
`client_id` and `grant_type`. On nothing with an underscore.
docs/integrations.md has a project.
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
from mtls_middleware.integrations.registry import ClientRegistry, connection_certificate, recorded
from mtls_middleware.layers.attached import CERTIFICATE_KEY
from mtls_middleware.token_endpoint.clients import RegisteredClient
from mtls_middleware.token_endpoint.credentials import BASIC, CREDENTIAL_PARAMETERS, POST, PUBLIC, ClientRequest

# Objects of Django and oauthlib are `Any`: neither has type hints.
if TYPE_CHECKING:
    from mtls_middleware.integrations.toolkit_interface import IntrospectTokenView, OAuth2Validator, OAuthLibCore
else:
    from oauth2_provider.oauth2_backends import OAuthLibCore
    from oauth2_provider.oauth2_validators import OAuth2Validator
    from oauth2_provider.views import IntrospectTokenView

_MARK = "~x5t-S256~"
_DEVICE_CODE = "urn:ietf:params:oauth:grant-type:device_code"
# The attribute of oauthlib's request that keeps its client. No parameter of a request becomes an attribute.
_REGISTERED = "mtls_registered_client"
_AUTHORIZATION = ("authorization", "http_authorization")


class CertificateBackend(OAuthLibCore):
    """Setting `OAUTH2_BACKEND_CLASS`: hands the certificate of each request on to the validator."""

    def extract_headers(self, request: Any) -> dict[str, Any]:
        """Django's `META` and the certificate, under a key that no header can have."""
        headers: dict[str, Any] = super().extract_headers(request)
        headers[CERTIFICATE_KEY] = connection_certificate(request)
        return headers

    def extract_body(self, request: Any) -> list[tuple[str, str]]:
        """The form. Repeated credentials are kept, so that the request is rejected (RFC 6749 3.2)."""
        repeated = [(name, each) for name in CREDENTIAL_PARAMETERS for each in request.POST.getlist(name)[:-1]]
        return [*repeated, *super().extract_body(request)]

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

    def client_authentication_required(self, request: Any, *_: Any, **__: Any) -> bool:
        """Whether the client has to authenticate: by its registered method, whatever the request carries."""
        return self._registered(request).token_endpoint_auth_method != PUBLIC

    def authenticate_client(self, request: Any, *args: Any, **options: Any) -> bool:
        """Authenticate the client by the method that it registered, and by no other method."""
        registered = self._registered(request)
        method = registered.token_endpoint_auth_method
        if method == PUBLIC:
            return False
        if method in (BASIC, POST):
            alone = _with_credentials_alone(request, method)
            if not super().authenticate_client(alone, *args, **options):
                return False
            request.client = alone.client
        elif not self.validate_client_id(registered.client_id, request):
            return False
        return bool(request.client.client_id == registered.client_id)

    def authenticate_client_id(self, client_id: str, request: Any, *args: Any, **options: Any) -> bool:
        """Admit a client that registered the method `none`, and no other client, without authentication."""
        registered = self._registered(request)
        if registered.token_endpoint_auth_method != PUBLIC or registered.client_id != client_id:
            return False
        return bool(super().authenticate_client_id(client_id, request, *args, **options))

    def _registered(self, request: Any) -> RegisteredClient:
        """The registration of the client that the request names. Raises oauthlib's errors.

        Decided once for each request: oauthlib asks several times.
        """
        found: RegisteredClient | None = vars(request).get(_REGISTERED)
        if found is None:
            with _oauthlib_errors(request):
                found = self.registry.identify(_client_request(request))
                if not self.validate_client_id(found.client_id, request):
                    self.registry.reject(_certificate(request), f"client {found.client_id!r}: no usable application")
                reason = disagreement(request.client, found)
                if reason is not None:
                    self.registry.reject(_certificate(request), reason)
            setattr(request, _REGISTERED, found)
        return found

    def validate_grant_type(
        self, client_id: str, grant_type: str, client: Any, request: Any, *args: Any, **options: Any
    ) -> bool:
        """Whether the client may use the grant. A device code is for the client that it was issued to (RFC 8628 3.4).

        The toolkit does not compare the two. A client without authentication could use the code of one that has it.
        """
        if grant_type == _DEVICE_CODE:
            code = dict(request.decoded_body).get("device_code")
            issued = get_device_grant_model().objects.filter(device_code=code).first()
            if issued is None or issued.client_id != request.client.client_id:
                with _oauthlib_errors(request), recorded(_certificate(request)):
                    raise Refused("invalid_grant", "the device code was issued to another client")
        return bool(super().validate_grant_type(client_id, grant_type, client, request, *args, **options))

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
        """Save the tokens of this request, bound to its certificate if the client asks for bound tokens.

        Within `REFRESH_TOKEN_GRACE_PERIOD_SECONDS`, the toolkit returns the tokens of an earlier request. If they are
        bound to another certificate, this raises oauthlib's `InvalidGrantError`.
        """
        with _oauthlib_errors(request):
            access, refresh = _confirmations(request)
        missing = access not in (None, token_binding(token["access_token"]))
        if missing or ("refresh_token" in token and refresh not in (None, token_binding(token["refresh_token"]))):
            raise ImproperlyConfigured(
                "tokens are not bound: set ACCESS_TOKEN_GENERATOR and REFRESH_TOKEN_GENERATOR in OAUTH2_PROVIDER to "
                f"{__name__}.bound_access_token and .bound_refresh_token"
            )
        with transaction.atomic(using=router.db_for_write(get_access_token_model())):
            saved = super().save_bearer_token(token, request, *args, **options)
            bound = token_binding(token["access_token"]), token_binding(token.get("refresh_token"))
            if bound[0] != access or ("refresh_token" in token and refresh not in (None, bound[1])):
                with _oauthlib_errors(request), recorded(_certificate(request)):
                    raise Refused(
                        "invalid_grant",
                        "the refresh token was used before, and its new tokens are bound to another certificate",
                    )
        return saved


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
    """For the access token and for the refresh token of this request.

    At the authorization endpoint, the certificate is the browser's, and nothing is bound to it (RFC 8705 6.4). A
    `response_type` tells it apart: a query can have a `grant_type` as well. The registration is checked once more,
    because no client authenticates there.
    """
    registry: ClientRegistry = oauth2_settings.OAUTH2_VALIDATOR_CLASS.registry
    certificate = _certificate(request) if request.grant_type and not request.response_type else None
    client_id = request.client.client_id
    registered = registry.look_up(client_id)
    reason = None if registered is None else disagreement(request.client, registered)
    if reason is not None:
        registry.reject(certificate, reason)
    return registry.confirmation(client_id, certificate), registry.refresh_confirmation(client_id, certificate)


def _with_credentials_alone(request: Any, method: str) -> Request:
    """The request with the credentials of this one method, so that the toolkit cannot use others.

    The toolkit tries Basic and then the body, takes an absent secret for an empty one, and does not verify the secret
    of a public client for the device grant. It decodes Basic by the charset that a parameter `encoding` names, so the
    query is left out as well.
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
