"""A Django site: its views, its wsgi.py and its asgi.py."""

from django.core.asgi import get_asgi_application
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, JsonResponse
from django.urls import path

from mtls_middleware import asgi, client_certificate, route_certificate, wsgi
from mtls_middleware.integrations.django_routes import require_certificate, require_scopes
from mtls_middleware.policy import Email, Issuer, UserPrincipalName
from mtls_middleware.sources import Apache

source = Apache(trusted_proxies=["127.0.0.1"], shared_secret=("MtlsProxySecret", ["new-secret-of-the-proxy"]))


@require_scopes("invoices:read")
def invoices(request: HttpRequest) -> JsonResponse:
    certificate = client_certificate(request)
    return JsonResponse({"addresses": [] if certificate is None else list(certificate.email_addresses)})


@require_scopes("invoices:read")
async def later(request: HttpRequest) -> JsonResponse:
    return JsonResponse({})


@require_certificate(UserPrincipalName("alice@corp.example") & Issuer("CN=Staff CA,O=Acme"))
def staff(request: HttpRequest) -> JsonResponse:
    return JsonResponse({"names": list(route_certificate(request).user_principal_names)})


urlpatterns = [path("invoices", invoices), path("later", later), path("staff", staff)]
application = wsgi.protect(get_wsgi_application(), source=source, allow=Email("ops@acme.example"), root_path="/api")
asynchronous = asgi.protect(get_asgi_application(), source=source, exempt_preflight=True, validity="handshake")
