"""A Django project with users: its settings, its database, and clients of each way through its middleware."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from asgiref.sync import iscoroutinefunction, markcoroutinefunction, sync_to_async
from django.contrib import admin
from django.core.management import call_command
from django.db import connections
from django.http import HttpRequest, JsonResponse
from django.test import override_settings
from django.urls import path

from mtls_middleware import client_certificate
from mtls_middleware.integrations import CertificateUser
from mtls_middleware.policy import UserPrincipalName
from mtls_middleware.sources import Nginx
from mtls_middleware.testing import IssuedCertificate
from mtls_middleware.testing.django import AsyncCertificateClient, CertificateClient
from mtls_middleware.validation import TrustStore
from tests import django_settings
from tests.frameworks import django_site
from tests.integrations.test_certificate_user import NAMESAKE, PARTNER, STAFF

django_site.set_up()

from django.contrib.auth import get_user_model  # noqa: E402 (after the settings)
from django.contrib.auth.models import Group  # noqa: E402 (as above)
from django.contrib.sessions.models import Session  # noqa: E402 (as above)

OURS = "mtls_middleware.integrations.django"
BACKEND = f"{OURS}.backends.CertificateUserBackend"
CERTIFICATE, USER = f"{OURS}.middleware.ClientCertificateMiddleware", f"{OURS}.middleware.CertificateUserMiddleware"
MIDDLEWARE = [CERTIFICATE, *django_settings.MIDDLEWARE, USER]
SOURCE = Nginx(trusted_proxies=["10.0.0.7"], shared_secret=("MtlsProxySecret", "s" * 16))
SETTING: dict[str, Any] = {
    "source": SOURCE,
    "trust_store": TrustStore([STAFF.certificate, NAMESAKE.certificate, PARTNER.certificate]),
    "required": False,
    "user": CertificateUser(by=UserPrincipalName(), issued_by=STAFF.certificate),
}


def whoami(request: HttpRequest) -> JsonResponse:
    certificate = client_certificate(request)
    return JsonResponse(
        {
            "user": request.user.get_username(),
            "key": request.session.session_key,
            "cart": request.session.get("cart"),
            "certificate": None if certificate is None else certificate.thumbprint,
            "headers": sorted(name for name in request.headers if name.lower().startswith(("x-ssl", "mtls"))),
            "raw": sorted(
                name.decode() for name, _ in getattr(request, "scope", {}).get("headers", ()) if b"ssl" in name
            ),
            "meta": sorted(name for name in request.META if "SSL" in name or "MTLSPROXY" in name),
        }
    )


async def later(request: Any) -> JsonResponse:
    user = await request.auser()
    return JsonResponse({"user": user.get_username(), "same": user == request.user})


def fill(request: HttpRequest) -> JsonResponse:
    request.session["cart"] = "full"
    return whoami(request)


urlpatterns = [
    path("whoami", whoami),
    path("later", later),
    path("fill", fill),
    path("open/whoami", whoami),
    path("admin/", admin.site.urls),
]


def sync_only(get_response: Any) -> Any:
    """A middleware that is not asynchronous, so that Django runs what is around it in a thread."""

    def middleware(request: Any) -> Any:
        return get_response(request)

    return middleware


class AsyncOnly:
    """A middleware that is only asynchronous."""

    sync_capable = False
    async_capable = True

    def __init__(self, get_response: Any) -> None:
        assert iscoroutinefunction(get_response)
        self.get_response = get_response
        markcoroutinefunction(self)

    async def __call__(self, request: Any) -> Any:
        return await self.get_response(request)


# The kind of the test client, and the middleware inside of ours.
WAYS: dict[str, tuple[bool, list[str]]] = {
    "wsgi": (False, []),
    "wsgi, async inside": (False, [f"{__name__}.AsyncOnly"]),
    "asgi": (True, []),
    "asgi, sync inside": (True, [f"{__name__}.sync_only"]),
}


class Browser:
    """A client with cookies, and with a certificate that can change. `get` and `post` return Django's response."""

    def __init__(self, is_async: bool, card: IssuedCertificate | None = None, **options: Any) -> None:
        self.client: Any = (AsyncCertificateClient if is_async else CertificateClient)(card, **options)
        self._is_async = is_async

    def get(self, path: str, **options: Any) -> Any:
        return self._send(self.client.get, path, **options)

    def post(self, path: str, data: Any = None, **options: Any) -> Any:
        return self._send(self.client.post, path, data, **options)

    def user(self) -> str:
        found: str = self.get("/whoami").json()["user"]
        return found

    def log_in(self, name: str, password: str) -> None:
        """Log in by password, with the method of Django's test client."""
        arguments = {"username": name, "password": password}
        done = asyncio.run(self.client.alogin(**arguments)) if self._is_async else self.client.login(**arguments)
        assert done

    def _send(self, method: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        return asyncio.run(method(*arguments, **options)) if self._is_async else method(*arguments, **options)


@cache
def _migrate() -> None:
    call_command("migrate", verbosity=0)


@contextmanager
def database() -> Iterator[None]:
    """An empty database, with the tables of the project."""
    _migrate()
    try:
        yield
    finally:
        for model in (get_user_model(), Group, Session):
            model.objects.all().delete()
        connections.close_all()
        asyncio.run(sync_to_async(connections.close_all)())  # those of the thread for asynchronous code


def site(**settings: Any) -> Any:
    """The settings of the project, some of them replaced. `setting`: replaced members of `MTLS_MIDDLEWARE`."""
    setting = {**SETTING, **settings.pop("setting", {})}
    inside = settings.pop("inside", [])
    return override_settings(
        **{
            "ROOT_URLCONF": __name__,
            "MIDDLEWARE": [*MIDDLEWARE, *inside],
            "AUTHENTICATION_BACKENDS": [BACKEND],
            "MTLS_MIDDLEWARE": setting,
            **settings,
        }
    )
