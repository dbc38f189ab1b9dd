"""The settings of the shop.

Every client may see the shop. The admin and the API need a client certificate: the staff has smart cards of STAFF_CA,
with the user principal name of their account. CLIENT_CAS has all CAs that may issue client certificates. With the
variable MTLS_PROXY_SECRET, nginx ends TLS (`mtls-middleware proxy-config nginx`). Without it, the server ends TLS.
"""

import os
from pathlib import Path

from mtls_middleware.integrations import CertificateUser
from mtls_middleware.policy import ANYONE, IssuedBy, UserPrincipalName
from mtls_middleware.sources import Nginx, ServerTLS
from mtls_middleware.validation import TrustStore

BASE_DIR = Path(__file__).resolve().parents[1]
STAFF_CA = os.environ.get("STAFF_CA", str(BASE_DIR / "staff-ca.pem"))
CLIENT_CAS = os.environ.get("CLIENT_CAS", STAFF_CA)

SECRET_KEY = os.environ.get("DJANGO_SECRET_KEY") or os.urandom(32).hex()
DEBUG = os.environ.get("DEBUG") == "1"  # serves the style sheets of the admin; in production, let nginx do it
ALLOWED_HOSTS = ["127.0.0.1", "localhost"]
ROOT_URLCONF = "shop.urls"
WSGI_APPLICATION = "shop.wsgi.application"
STATIC_URL = "static/"
USE_TZ = True
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": os.environ.get("DATABASE", str(BASE_DIR / "db.sqlite3")),
    }
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

INSTALLED_APPS = [
    "mtls_middleware.integrations.django",
    "mtls_middleware.integrations.django.apps.CertificateAdminConfig",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "rest_framework",
]
MIDDLEWARE = [
    "mtls_middleware.integrations.django.middleware.ClientCertificateMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "mtls_middleware.integrations.django.middleware.CertificateUserMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]

USES_NGINX = "MTLS_PROXY_SECRET" in os.environ
CSRF_COOKIE_SECURE = SESSION_COOKIE_SECURE = True
if USES_NGINX:  # without this setting, Django takes requests for plain HTTP, and rejects the forms of the admin
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")

# One place says where certificates come from, who needs one, and which user a certificate belongs to.
MTLS_MIDDLEWARE = {
    "source": Nginx(
        trusted_proxies=["127.0.0.1"],
        shared_secret=("MtlsProxySecret", os.environ["MTLS_PROXY_SECRET"].split(",")),
        certificate_header="MtlsClientCert",
        verify_header="MtlsClientVerify",
    )
    if USES_NGINX
    else ServerTLS(),
    "trust_store": TrustStore.from_pem_file(CLIENT_CAS),
    "allow": {"/": ANYONE, "/admin": IssuedBy(STAFF_CA)},
    "user": CertificateUser(by=UserPrincipalName(), issued_by=STAFF_CA),
}
AUTHENTICATION_BACKENDS = ["shop.backends.SmartCardBackend"]
