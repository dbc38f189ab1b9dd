"""The arguments of `protect` that concern both of its layers."""

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mtls_middleware import options
from mtls_middleware.errors import ConfigurationError
from mtls_middleware.resource_server.bearer import Scheme, checked_schemes

if TYPE_CHECKING:
    from mtls_middleware.binding import Binding


def check_without_tokens(
    *,
    scopes: Collection[str],
    resource_metadata: object,
    binding: "Binding",
    realm: str | None,
    schemes: Sequence[Scheme],
) -> None:
    """Raises `ConfigurationError` for arguments of `protect` that need `tokens`."""
    given = {
        "scopes": bool(scopes),
        "binding": binding != "required",
        "realm": realm is not None,
        "schemes": checked_schemes(schemes) != ("Bearer",),
        "resource_metadata": resource_metadata is not None,
    }
    names = [f"{name}=" for name, is_given in given.items() if is_given]
    if names:
        raise ConfigurationError(
            f"{', '.join(names)} without tokens=: access tokens are checked only with tokens=, for example "
            "tokens=JWTAccessTokens(issuer=..., audience=..., jwks_uri=...)"
        )


def requires_certificate(required: bool | None, tokens: object) -> bool | None:
    """Return `required` of the certificate layer for the arguments of `protect`.

    Without tokens, a certificate is required by default. With tokens, the default depends on `allow`.
    """
    return True if required is None and tokens is None else required


def with_published(exempt: Collection[str], resource_metadata: str | Mapping[str, Any] | None) -> Collection[str]:
    """The exempt paths of the certificate layer: its own, and the path of the document that the token layer serves."""
    if not isinstance(resource_metadata, Mapping):
        return exempt
    from mtls_middleware.resource_server.metadata import served_document  # few applications publish this document

    return options.strings("exempt", exempt, '"/health"') | {served_document(resource_metadata).path}
