"""A Django project around the files of docs/integrations.md, written into a folder, with its clients in a database."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.integrations.clients import CALLBACK, SECRET
from tests.integrations.page_code import ENVIRONMENT, FILES

SETTINGS = """
import os
from pathlib import Path
BASE = Path(__file__).parent
os.chdir(BASE)  # the documented project names its CA file without a folder
SECRET_KEY = "for tests"
ALLOWED_HOSTS = ["*"]
DEBUG_PROPAGATE_EXCEPTIONS = bool(os.environ.get("PROPAGATE"))
USE_TZ = True
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]  # the strong ones are slow, which is their point
ROOT_URLCONF = "every_url"
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": BASE / "db.sqlite3"}}
INSTALLED_APPS = [
    "django.contrib.auth", "django.contrib.contenttypes", "django.contrib.sessions", "oauth2_provider", "clients",
]
MIGRATION_MODULES = {"auth": None, "contenttypes": None, "sessions": None, "oauth2_provider": None}  # their last state
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
]
"""
URLS = """
from django.contrib.auth import get_user_model, login
from django.http import HttpResponse
from django.urls import path
from oauth2_provider.decorators import protected_resource
from oauth2_provider.views import ProtectedResourceView
from oauth2_provider.views.mixins import ProtectedResourceMetadataMixin
from clients.oauth import Validator
from urls import urlpatterns as documented

def log_in(request):
    login(request, get_user_model().objects.get(username="alice"))
    return HttpResponse("alice")

class Me(ProtectedResourceView):
    def get(self, request):
        return HttpResponse("me")

class Challenged(ProtectedResourceMetadataMixin, Me):
    pass

@protected_resource(validator_cls=Validator)
def decorated(request):
    return HttpResponse("me")

urlpatterns = [path("login", log_in), path("me", Me.as_view()), path("challenged", Challenged.as_view())]
urlpatterns += [path("decorated", decorated), *documented]
"""
PREPARE = """
import json, sys
import django
django.setup()
from django.contrib.auth import get_user_model
from django.core.management import call_command
from oauth2_provider.models import Application
from clients.models import ClientMetadata
call_command("migrate", run_syncdb=True, verbosity=0)
get_user_model().objects.create_user("alice")
for client_id, given in json.load(sys.stdin).items():
    application = Application.objects.create(client_id=client_id, skip_authorization=True, **given["application"])
    if given["metadata"]:
        # bulk_create calls no save(): the database may hold a disagreement that was stored without the check
        ClientMetadata.objects.bulk_create([ClientMetadata(application=application, members=given["metadata"])])
"""


def write(directory: Path, ca: str, clients: dict[str, dict[str, Any]], **provider: Any) -> dict[str, str]:
    """The whole project; gives the environment that its processes need. Without clients it has no database.

    `provider`: more of `OAUTH2_PROVIDER`; `None` takes a setting away.
    """
    (directory / "clients").mkdir()
    (directory / "clients" / "__init__.py").touch()
    (directory / "clients-ca.pem").write_text(ca)
    for name in ("proxy.py", "clients/models.py", "clients/oauth.py", "urls.py", "wsgi.py", "asgi.py"):
        (directory / name).write_text(FILES[name])
    more = f"OAUTH2_PROVIDER |= {provider!r}\nfor name in [n for n, v in OAUTH2_PROVIDER.items() if v is None]:\n"
    (directory / "settings.py").write_text(
        SETTINGS + FILES["settings.py"] + more + "    del OAUTH2_PROVIDER[name]  # None: as if it were not there\n"
    )
    (directory / "every_url.py").write_text(URLS)
    python_path = os.pathsep.join(filter(None, (str(directory), os.environ.get("PYTHONPATH"))))  # the caller's package
    environment = {"PYTHONPATH": python_path, "DJANGO_SETTINGS_MODULE": "settings", **ENVIRONMENT}
    if clients:
        stored = {client_id: _stored(client_id, each) for client_id, each in clients.items()}
        command = [sys.executable, "-c", PREPARE]
        subprocess.run(command, input=json.dumps(stored), env=os.environ | environment, text=True, check=True)
    return environment


def _stored(client_id: str, metadata: dict[str, Any]) -> dict[str, Any]:
    method = metadata["token_endpoint_auth_method"]
    code = client_id in ("app", "plain-app", "web", "careless") or client_id == method
    application = {
        "name": client_id,
        "client_type": "public" if method == "none" or client_id == "careless" else "confidential",
        "authorization_grant_type": "authorization-code" if code else "client-credentials",
        "redirect_uris": CALLBACK if code else "",
        "client_secret": SECRET,  # also those that must never come by it have one
        "algorithm": "RS256" if client_id == "web" else "",
    }
    ordinary = metadata.keys() == {"token_endpoint_auth_method"} and method in ("none", "client_secret_basic")
    return {"application": application, "metadata": None if ordinary else metadata}
