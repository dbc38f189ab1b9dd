"""Where client certificates come from: the server itself, or one trusted proxy's header fields."""

from mtls_middleware.sources.header import HeaderSource
from mtls_middleware.sources.products import (
    Apache,
    AWSLoadBalancer,
    AzureAppService,
    Caddy,
    ClientCertHeader,
    Cloudflare,
    Envoy,
    GoogleCloudLoadBalancer,
    HAProxy,
    Nginx,
    Traefik,
)
from mtls_middleware.sources.server import ServerTLS

__all__ = [
    "AWSLoadBalancer",
    "Apache",
    "AzureAppService",
    "Caddy",
    "ClientCertHeader",
    "Cloudflare",
    "Envoy",
    "GoogleCloudLoadBalancer",
    "HAProxy",
    "HeaderSource",
    "Nginx",
    "ServerTLS",
    "Traefik",
]
