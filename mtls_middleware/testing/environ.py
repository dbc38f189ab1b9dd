"""What marks the environ of a test's request."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from mtls_middleware.request import TESTING_KEY

# No header field can set this key: every key that a client chooses begins with HTTP_ (RFC 3875 4.1.18).
TESTING_ENVIRON: Mapping[str, Any] = MappingProxyType({TESTING_KEY: True})
"""For the environ of a test client, which is not a server: names count as kept apart, and `REMOTE_ADDR` is trusted.

Example, with a header source behind `trusted_proxies=["10.0.0.0/8"]`:

    proxy = {**TESTING_ENVIRON, "REMOTE_ADDR": "10.0.0.1"}
    flask_app.test_client().get("/", headers=client.as_nginx(), environ_overrides=proxy)  # Flask, werkzeug
    django.test.Client(headers=client.as_nginx(), **proxy).get("/")  # Django, for layers inside of Django
    webtest.TestApp(app, extra_environ=proxy).get("/", headers=client.as_nginx())  # WebTest
"""
