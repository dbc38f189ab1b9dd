"""Each part around the core can be deleted, and the rest works without a change."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import mtls_middleware

PACKAGE = Path(mtls_middleware.__file__).parent
PARTS = ["cli", "client", "integrations", "revocation", "servers", "testing"]

# Imports every module that is left, and protects an application with it.
PROGRAM = """
import importlib, pkgutil, sys
import django
from django.conf import settings
settings.configure(INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes", "oauth2_provider"])
django.setup()
import mtls_middleware
for each in pkgutil.walk_packages(mtls_middleware.__path__, "mtls_middleware."):
    importlib.import_module(each.name)
from mtls_middleware import asgi, sources, wsgi
def application(environ, start_response):
    raise AssertionError("reached without a certificate")
answers = []
protected = wsgi.protect(application, source=sources.ServerTLS())
environ = {"REQUEST_METHOD": "GET", "PATH_INFO": "/", "SERVER_SOFTWARE": "gunicorn/23.0.0", "REMOTE_ADDR": "192.0.2.1"}
protected(environ, lambda status, headers: answers.append(status))
assert answers == ["403 Forbidden"], answers
async def asgi_application(scope, receive, send):
    raise AssertionError("reached without a certificate")
asgi.protect(asgi_application, source=sources.ServerTLS())
print(sum(name.startswith("mtls_middleware") for name in sys.modules))
"""


@pytest.mark.parametrize("part", PARTS)
def test_the_rest_works_without_this_part(part: str, tmp_path: Path) -> None:
    copy = tmp_path / "mtls_middleware"
    shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__", part))
    assert not (copy / part).exists()
    done = subprocess.run([sys.executable, "-c", PROGRAM], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert int(done.stdout) > 80
