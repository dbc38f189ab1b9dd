"""`TESTING_ENVIRON`: the WSGI environ key that marks a request of a test client."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from mtls_middleware.request import TESTING_KEY

# A client cannot set this key: the keys of header fields begin with HTTP_ (RFC 3875 4.1.18).
TESTING_ENVIRON: Mapping[str, Any] = MappingProxyType({TESTING_KEY: True})
"""An environ key for a test client: the library then trusts the header names and `REMOTE_ADDR` of the request.

Without this key, the library does not trust them, because a test client is not a WSGI server that it knows.

Example, with a header source behind `trusted_proxies=["10.0.0.0/8"]`:

    proxy = {**TESTING_ENVIRON, "REMOTE_ADDR": "10.0.0.1"}
    flask_app.test_client().get("/", headers=client.as_nginx(), environ_overrides=proxy)  # Flask, werkzeug
    django.test.Client(headers=client.as_nginx(), **proxy).get("/")  # Django, for layers inside of Django
    webtest.TestApp(app, extra_environ=proxy).get("/", headers=client.as_nginx())  # WebTest
"""
