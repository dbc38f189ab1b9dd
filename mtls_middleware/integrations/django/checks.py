"""System checks of the setting `MTLS_MIDDLEWARE`, of `MIDDLEWARE` and of `AUTHENTICATION_BACKENDS`."""

from collections.abc import Iterator
from typing import Any

from django.conf import settings
from django.contrib.auth import get_user_model
from django.contrib.auth.middleware import AuthenticationMiddleware
from django.contrib.sessions.middleware import SessionMiddleware
from django.core.checks import CheckMessage, Error, Warning  # noqa: A004 (Django's name)
from django.core.exceptions import FieldDoesNotExist
from django.middleware.cache import CacheMiddleware, FetchFromCacheMiddleware
from django.utils.module_loading import import_string

from mtls_middleware.errors import ConfigurationError
from mtls_middleware.integrations.django.backends import CertificateUserBackend
from mtls_middleware.integrations.django.configuration import (
    SETTING,
    configured,
    configured_layers,
    configured_user,
)
from mtls_middleware.integrations.django.middleware import CertificateUserMiddleware, ClientCertificateMiddleware

_PAGE = "See docs/users.md."
_CACHES = (FetchFromCacheMiddleware, CacheMiddleware)


def check_settings(app_configs: Any = None, **_: Any) -> list[CheckMessage]:  # noqa: ARG001 (Django's interface)
    """Return the faults in the settings of this package, for `manage.py check`. Example: `check_settings()`"""
    try:
        found = configured()
        configured_layers()
    except ConfigurationError as error:
        return [Error(str(error), hint=_PAGE, id="mtls_middleware.E001")]
    middleware = [*_classes(settings.MIDDLEWARE)]
    messages = [*_of_order(middleware)]
    if "user" in found or _position(middleware, CertificateUserMiddleware) is not None:
        messages += _of_user(found.get("trust_store"))
    return messages


def _of_order(middleware: list[type]) -> Iterator[CheckMessage]:
    ours = _position(middleware, ClientCertificateMiddleware)
    if ours is None:
        yield Warning(
            f"{SETTING} is set, but ClientCertificateMiddleware is not in MIDDLEWARE.",
            hint=f'Add "{_path(ClientCertificateMiddleware)}" as the first entry of MIDDLEWARE.',
            id="mtls_middleware.W002",
        )
    for other in middleware[: ours or 0]:
        if issubclass(other, _CACHES):
            yield Error(
                f"{other.__name__} is before ClientCertificateMiddleware in MIDDLEWARE, so clients without an allowed "
                "certificate get cached pages.",
                hint="Put ClientCertificateMiddleware first.",
                id="mtls_middleware.E003",
            )
    user = _position(middleware, CertificateUserMiddleware)
    if user is None:
        return
    for needed in (ClientCertificateMiddleware, SessionMiddleware, AuthenticationMiddleware):
        position = _position(middleware, needed)
        if position is not None and position > user:
            yield Error(
                f"{needed.__name__} is after CertificateUserMiddleware in MIDDLEWARE.",
                hint="Put CertificateUserMiddleware after it.",
                id="mtls_middleware.E004",
            )
        elif position is None and needed is not ClientCertificateMiddleware:
            # No error if the middleware of the layers is absent, because the layers may be outside of the project, for
            # example in `wsgi.py`.
            yield Error(
                f"CertificateUserMiddleware needs {needed.__name__} in MIDDLEWARE.",
                hint=f'Add "{_path(needed)}" before CertificateUserMiddleware.',
                id="mtls_middleware.E004",
            )


def _of_user(trust_store: object) -> Iterator[CheckMessage]:
    try:
        user = configured_user()
    except ConfigurationError as error:
        yield Error(str(error), hint=_PAGE, id="mtls_middleware.E005")
        return
    if user.needs_path and trust_store is None:
        yield Error(
            f'The user of {SETTING} has issued_by=, but without "trust_store" no certificate identifies a user.',
            hint='Add "trust_store": TrustStore([...]) with the CAs that may issue client certificates.',
            id="mtls_middleware.E006",
        )
    backends = [each for each in _classes(settings.AUTHENTICATION_BACKENDS) if issubclass(each, CertificateUserBackend)]
    if not backends:
        yield Error(
            "No CertificateUserBackend is in AUTHENTICATION_BACKENDS, so certificates log no user in.",
            hint=f'Add "{_path(CertificateUserBackend)}", or a subclass of it.',
            id="mtls_middleware.E007",
        )
    for backend in backends:
        model: Any = get_user_model()
        field = backend.name_field
        try:
            model._meta.get_field(field or model.USERNAME_FIELD)
        except FieldDoesNotExist:
            yield Error(
                f"{backend.__name__}.name_field is {field!r}, which is not a field of {model.__name__}.",
                hint='Give a field that has the name of the certificate, for example "email".',
                id="mtls_middleware.E008",
            )


def _classes(paths: list[str]) -> Iterator[type]:
    """Return the classes that a setting names. Django itself reports a path that cannot be imported."""
    for path in paths:
        try:
            found = import_string(path)
        except ImportError:
            continue
        if isinstance(found, type):
            yield found


def _position(middleware: list[type], kind: type) -> int | None:
    return next((index for index, each in enumerate(middleware) if issubclass(each, kind)), None)


def _path(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"
