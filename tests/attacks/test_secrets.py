"""What must not be said, and what must hold where Python drops `assert`."""

import copy
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from mtls_middleware import asgi, wsgi
from mtls_middleware.sources import Envoy, Nginx
from tests.live.servers import ROOT

SECRET = "s3cret-" * 4


@pytest.mark.case("155")
@pytest.mark.parametrize("show", [repr, str, "{}".format, "{0!r}".format, copy.copy, copy.deepcopy])
@pytest.mark.parametrize("source", [Nginx, Envoy])
def test_the_shared_secret_is_in_no_text_about_what_holds_it(source: Any, show: Callable[[object], object]) -> None:
    made = source(shared_secret=("X-Proxy-Secret", SECRET))
    layers = [module.ClientCertificateMiddleware(print, made) for module in (asgi, wsgi)]
    for each in (made, made._trust, *layers, layers[0]._layers):
        assert SECRET not in repr(show(each))
        assert SECRET not in str(show(each))
    assert made._trust._secret == ("x-proxy-secret", (SECRET.encode(),))


_WITHOUT_ASSERT = """
from mtls_middleware.errors import ConfigurationError
from mtls_middleware.sources import Nginx, ServerTLS
from mtls_middleware.testing import CertificateAuthority
from mtls_middleware.wsgi import protect

assert False, "this is not python -O"
networks = [{"trusted_proxies": ["0.0.0.0/0"]}, {"trusted_proxies": "10.0.0.0/8"}]
for wrong in ({}, *networks, {"shared_secret": ("X", "short")}):
    try:
        Nginx(**wrong)
    except ConfigurationError:
        print("refused")
app = protect(lambda environ, start: [start("200 OK", []) or b"reached"], source=ServerTLS())
client = CertificateAuthority().issue()
for environ in ({}, client.as_environ(verify="FAILED:x"), client.as_environ()):
    app({"REQUEST_METHOD": "GET", "PATH_INFO": "/", **environ}, lambda status, headers: print(status))
"""


def test_without_assertions_the_same_is_refused() -> None:
    run = subprocess.run(
        [sys.executable, "-O", "-W", "error", "-c", _WITHOUT_ASSERT],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.stdout.splitlines() == ["refused"] * 4 + ["403 Forbidden", "403 Forbidden", "200 OK"], run.stderr
