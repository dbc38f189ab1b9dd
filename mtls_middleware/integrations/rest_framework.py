"""Django REST framework: authentication by certificate or bound token, and permissions by scope and by rule."""

from typing import TYPE_CHECKING, Any

from mtls_middleware.accessors import access_token, carrier
from mtls_middleware.certificate import ClientCertificate
from mtls_middleware.integrations.certificate_user import certificate_of
from mtls_middleware.integrations.django.backends import user_of_certificate
from mtls_middleware.integrations.django.configuration import configured_user
from mtls_middleware.integrations.route_checks import RouteCertificate, RouteCheck, decorator_scopes
from mtls_middleware.integrations.token_user import token_user
from mtls_middleware.json_values import json_object
from mtls_middleware.resource_server.token import AccessToken
from mtls_middleware.responses import Challenge, LayerResponse
from mtls_middleware.rule import Rule

if TYPE_CHECKING:  # Django REST framework has no type hints
    from mtls_middleware.integrations.rest_framework_interface import (
        APIException,
        AuthenticationFailed,
        BaseAuthentication,
        BasePermission,
        SessionAuthentication,
    )
else:
    from rest_framework.authentication import BaseAuthentication, SessionAuthentication
    from rest_framework.exceptions import APIException, AuthenticationFailed
    from rest_framework.permissions import BasePermission

# The fields that browsers send with requests that another site causes (Fetch Metadata, RFC 6454 7), and cookies.
_OF_BROWSERS = ("HTTP_ORIGIN", "HTTP_SEC_FETCH_SITE", "HTTP_REFERER", "HTTP_COOKIE")


class CertificateAuthentication(SessionAuthentication):
    """Authenticates the user of the client certificate. `request.auth` is the `ClientCertificate`.

    The setting `MTLS_MIDDLEWARE` and the `CertificateUserBackend` determine the user. No session is used. A request
    whose certificate identifies no user is not authenticated. If a permission needs a user, the response is 403,
    because no `WWW-Authenticate` challenge asks for a certificate.

    A browser sends its certificate also with requests that another site makes. A request that may come from a browser
    (with `Origin`, `Sec-Fetch-Site`, `Referer` or a cookie) therefore needs Django's CSRF token unless its method is
    safe. Other clients do not need this token.

    Example: `authentication_classes = [CertificateAuthentication]`
    """

    def authenticate(self, request: Any) -> tuple[Any, ClientCertificate] | None:
        """Return the user and the certificate, or `None`. Raises `PermissionDenied` if the CSRF token is missing."""
        identity = configured_user().identify(certificate_of(request._request))
        user = None if identity is None else user_of_certificate(request._request, identity)
        if user is None or identity is None:
            return None
        if any(map(request.META.get, _OF_BROWSERS)):
            self.enforce_csrf(request)
        return user, identity.certificate


class BoundTokenAuthentication(BaseAuthentication):
    """Authenticates by the access token that the layers accepted. `request.auth` is the `AccessToken`.

    The setting `MTLS_MIDDLEWARE` needs `tokens`. The layer itself rejects a bad token. A request without a token
    reaches this class only on a path in `exempt`. If a permission needs a user there, the response is 401 with a
    challenge.

    Override `get_user` to return a user of your own. By default, the user is a `TokenUser` without permissions.

    Attributes:
        realm: the realm of the challenge (RFC 6750 3).

    Example: `authentication_classes = [BoundTokenAuthentication]`
    """

    realm: str = "protected"

    def authenticate(self, request: Any) -> tuple[Any, AccessToken] | None:
        """Return the user and the token, or `None`. Raises `AuthenticationFailed` if the token belongs to no user."""
        certificate_of(request._request)  # raises ConfigurationError without layers
        token = access_token(request._request)
        if token is None:
            return None
        user = self.get_user(token)
        if user is None:
            raise AuthenticationFailed("The access token belongs to no user.", code="invalid_token")
        return user, token

    def get_user(self, token: AccessToken) -> Any:
        """Return the user of a token, or `None`.

        Example: `return User.objects.filter(username=token.subject, is_active=True).first()`
        """
        return token_user(token)

    def authenticate_header(self, request: Any) -> str:  # noqa: ARG002 (Django REST framework's interface)
        """Return the challenge for a request without a token."""
        return f'Bearer realm="{Challenge(realm=self.realm).realm}"'


class RouteRejected(APIException):
    """Raised if a request must not reach its view. The response is that of the layers, in the format of the view.

    Example: `if isinstance(error, RouteRejected): ...` in the function of the setting `EXCEPTION_HANDLER`
    """

    def __init__(self, response: LayerResponse) -> None:
        super().__init__()
        self.status_code: int = response.status
        self.detail: Any = json_object(response.body)
        headers = dict(response.headers)
        if "WWW-Authenticate" in headers:
            self.auth_header: str = headers["WWW-Authenticate"]


def require_scopes(
    *scopes: str, realm: str | None = None, resource_metadata: str | None = None
) -> type[BasePermission]:
    """Return a permission class that requires an access token with all of `scopes`.

    Without `scopes`, any access token is accepted. The response is 401 without a token, and 403 `insufficient_scope` if
    a scope is missing. Do not combine the class with `|`, because it rejects the request at once.

    Arguments:
        scopes: the required scopes, one string for each scope.
        realm, resource_metadata: parameters of the challenge (RFC 6750 3, RFC 9728 5.1). Use the values of the layer.

    Raises `ConfigurationError` for an invalid argument.

    Example: `permission_classes = [require_scopes("invoices:read")]`
    """
    example = 'permission_classes = [require_scopes("invoices:read")]'
    return _permission(decorator_scopes(scopes, example, realm=realm, resource_metadata=resource_metadata))


def require_certificate(rule: Rule | None = None) -> type[BasePermission]:
    """Return a permission class that requires a client certificate that matches `rule`.

    Without `rule`, any verified certificate is accepted. The response is 403 as in the layers. Do not combine the class
    with `|`, because it rejects the request at once.

    Raises `ConfigurationError` for an object that is not a rule. Convert a function with `policy.as_rule`.

    Example: `permission_classes = [require_certificate(Subject("CN=ops,O=Acme"))]`
    """
    return _permission(RouteCertificate(rule))


def _permission(check: RouteCheck[Any]) -> type[BasePermission]:
    class RoutePermission(BasePermission):
        """A permission that the check of the layers grants or denies."""

        def has_permission(self, request: Any, view: Any) -> bool:
            found = check.check(carrier(request._request), method=request.method, path=request.path_info)
            if isinstance(found, LayerResponse):
                view.headers = {**view.headers, "Cache-Control": "no-store"}
                raise RouteRejected(found)
            return True

    return RoutePermission
