"""Django, set up once in a process, with the views of these tests as its routes.

Imported only by tests that have a Django application.
"""

from functools import cache
from typing import Any

import django
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import path, re_path

from mtls_middleware import client_certificate
from tests.frameworks.reading import described, seen


def _token(request: HttpRequest) -> JsonResponse:
    return JsonResponse(described(request, request.POST))


async def _awaited(request: HttpRequest) -> HttpResponse:
    certificate = client_certificate(request)
    return HttpResponse(b"" if certificate is None else certificate.thumbprint.encode())


def _any(request: HttpRequest) -> JsonResponse:
    return JsonResponse(seen(request, request.META.get("HTTP_X_SSL_CLIENT_CERT")))


urlpatterns = [path("token", _token), path("async", _awaited), re_path("", _any)]


@cache
def set_up() -> None:
    """Django itself, once in a process; other URLs come by `override_settings(ROOT_URLCONF=...)`."""
    settings.configure(SECRET_KEY="for tests", ALLOWED_HOSTS=["*"], ROOT_URLCONF=__name__)
    django.setup()


def wsgi() -> Any:
    set_up()
    return get_wsgi_application()


def asgi() -> Any:
    set_up()
    return get_asgi_application()
