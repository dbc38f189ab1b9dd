"""Django, set up once in a process, with the views of these tests as its routes.

Imported only by tests that have a Django application.
"""

import atexit
import shutil
import tempfile
from functools import cache
from typing import Any

import django
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import path, re_path

from mtls_middleware import client_certificate
from tests import django_settings
from tests.frameworks.reports import described, seen


def _token(request: HttpRequest) -> JsonResponse:
    return JsonResponse(described(request, request.POST))


async def _awaited(request: HttpRequest) -> HttpResponse:
    certificate = client_certificate(request)
    return HttpResponse(b"" if certificate is None else certificate.thumbprint.encode())


def _any(request: HttpRequest) -> JsonResponse:
    return JsonResponse(seen(request, request.META.get("HTTP_X_SSL_CLIENT_CERT")))


urlpatterns = [path("token", _token), path("async", _awaited), re_path("", _any)]


# The file of the database is deleted after the tests, so nothing needs to reach the disk.
_DATABASE = {
    "ENGINE": "django.db.backends.sqlite3",
    "OPTIONS": {"init_command": "PRAGMA synchronous=OFF; PRAGMA journal_mode=MEMORY"},
}


@cache
def set_up() -> None:
    """Django itself, once in a process; other URLs come by `override_settings(ROOT_URLCONF=...)`."""
    folder = tempfile.mkdtemp(prefix="mtls-django-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    settings.configure(
        SECRET_KEY="for tests",
        ALLOWED_HOSTS=["*"],
        ROOT_URLCONF=__name__,
        # Used only by tests with users: see tests/integrations/django_users.py.
        INSTALLED_APPS=[
            *django_settings.APPLICATIONS,
            "mtls_middleware.integrations.django.apps.CertificateAdminConfig",
            "mtls_middleware.integrations.django",
        ],
        DATABASES={"default": {**_DATABASE, "NAME": f"{folder}/db.sqlite3"}},
        TEMPLATES=django_settings.TEMPLATES,
        USE_TZ=True,
    )
    django.setup()


def wsgi() -> Any:
    set_up()
    return get_wsgi_application()


def asgi() -> Any:
    set_up()
    return get_asgi_application()
