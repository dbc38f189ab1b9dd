"""The applications for `INSTALLED_APPS`: the system checks, and the admin for certificates."""

from typing import Any

from django.apps import AppConfig

# Import the module, not its classes: Django searches this file for configuration classes.
from django.contrib.admin import apps as admin
from django.core import checks


class MTLSMiddlewareConfig(AppConfig):
    """The system checks and templates. Example: `INSTALLED_APPS = ["mtls_middleware.integrations.django", ...]`"""

    name = "mtls_middleware.integrations.django"
    label = "mtls_middleware"
    verbose_name: Any = "Client certificates"
    default = True

    def ready(self) -> None:
        """Register the system checks."""
        from mtls_middleware.integrations.django.checks import check_settings

        checks.register(check_settings, checks.Tags.security)


class CertificateAdminConfig(admin.AdminConfig):
    """Django's admin, where a client certificate is the only way to log in: see `CertificateAdminSite`.

    Use it instead of `"django.contrib.admin"`. Example:
    `INSTALLED_APPS = ["mtls_middleware.integrations.django.apps.CertificateAdminConfig", ...]`
    """

    default = False
    default_site = "mtls_middleware.integrations.django.admin_site.CertificateAdminSite"
