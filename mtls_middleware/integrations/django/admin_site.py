"""`CertificateAdminSite`: Django's admin for users who log in by certificate, for example with a smart card."""

from typing import Any

from django.contrib.admin import AdminSite
from django.contrib.auth.decorators import login_not_required
from django.http import HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.decorators import method_decorator
from django.views.decorators.cache import never_cache

from mtls_middleware.integrations.certificate_user import certificate_of
from mtls_middleware.integrations.django.configuration import configured_user


class CertificateAdminSite(AdminSite):
    """Django's admin without its password form. A user without access gets a page with status 403 and the reason.

    The page after a logout says that the browser still presents the certificate, so the next request logs in again.

    Example: see `CertificateAdminConfig`
    """

    logout_template: str | None = "mtls_middleware/logged_out.html"

    @method_decorator(never_cache)
    @method_decorator(login_not_required)
    def login(self, request: Any, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """Redirect a user with access to the admin. Any other user gets a page with status 403."""
        if self.has_permission(request):
            return HttpResponseRedirect(reverse("admin:index", current_app=self.name))
        certificate = certificate_of(request)
        context = {
            **self.each_context(request),
            "title": "No access",
            "certificate": certificate,
            "identity": configured_user().identify(certificate),
            **(extra_context or {}),
        }
        request.current_app = self.name
        return TemplateResponse(request, "mtls_middleware/no_access.html", context, status=403)
