"""Applications of `test_path_roots`: "/admin" is for CN=ops, everything else for CN=guest, behind a header source."""

import os
from typing import Any

from mtls_middleware import asgi, wsgi
from mtls_middleware.policy import Subject
from mtls_middleware.sources import Nginx
from tests.frameworks import path_sites

SECRET = ("MtlsProxySecret", "0123456789abcdef0123")
OPTIONS: dict[str, Any] = {
    "allow": {"/admin": Subject("CN=ops,O=Acme"), "/": Subject("CN=guest,O=Acme")},
    "source": Nginx(shared_secret=SECRET),
}
if (stated := os.environ.get("TEST_ROOT")) is not None:
    OPTIONS["root_path"] = stated


def _asgi(app: Any) -> Any:
    return asgi.protect(app, **OPTIONS)


def _wsgi(app: Any) -> Any:
    return wsgi.protect(app, **OPTIONS)


def _made(name: str) -> Any:
    if name == "dispatched_quart":
        from hypercorn.middleware import DispatcherMiddleware

        return DispatcherMiddleware({"/api": path_sites.quart(_asgi)})
    if name == "forced_django":
        from django.conf import settings

        from tests.frameworks import django_site

        django_site.set_up()
        settings.ROOT_URLCONF, settings.FORCE_SCRIPT_NAME = "tests.frameworks.path_urls", "/api"
        return path_sites.django_asgi(_asgi)
    return getattr(path_sites, name)(_wsgi if name == "flask" else _asgi)


# The test process imports this module as well, for the secret.
app = _made(os.environ["TEST_SITE"]) if "TEST_SITE" in os.environ else None
