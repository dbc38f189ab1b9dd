"""Finds the client certificate of a request: in the server's TLS connection, or in header fields of a trusted proxy."""

from typing import TYPE_CHECKING

from mtls_middleware.lazy_exports import exports

if TYPE_CHECKING:
    from mtls_middleware.request import Peer, RequestView, TLSFacts
    from mtls_middleware.sources.api_gateway import AWSAPIGateway
    from mtls_middleware.sources.header import HeaderSource
    from mtls_middleware.sources.products import (
        Apache,
        AWSLoadBalancer,
        AzureApplicationGateway,
        AzureAppService,
        Caddy,
        CitrixNetScaler,
        ClientCertHeader,
        Cloudflare,
        CloudFoundry,
        Envoy,
        GoogleCloudLoadBalancer,
        HAProxy,
        Nginx,
        Traefik,
    )
    from mtls_middleware.sources.server import ServerTLS
    from mtls_middleware.sources.source import Absence, Source

__all__ = [
    "AWSAPIGateway",
    "AWSLoadBalancer",
    "Absence",
    "Apache",
    "AzureAppService",
    "AzureApplicationGateway",
    "Caddy",
    "CitrixNetScaler",
    "ClientCertHeader",
    "CloudFoundry",
    "Cloudflare",
    "Envoy",
    "GoogleCloudLoadBalancer",
    "HAProxy",
    "HeaderSource",
    "Nginx",
    "Peer",
    "RequestView",
    "ServerTLS",
    "Source",
    "TLSFacts",
    "Traefik",
]

if not TYPE_CHECKING:  # type checkers must not see `__getattr__`, or they would accept misspelt names
    __getattr__, __dir__ = exports(
        __name__,
        {
            "request": ["Peer", "RequestView", "TLSFacts"],
            "sources.api_gateway": ["AWSAPIGateway"],
            "sources.header": ["HeaderSource"],
            "sources.products": [
                "Apache",
                "AWSLoadBalancer",
                "AzureApplicationGateway",
                "AzureAppService",
                "Caddy",
                "CitrixNetScaler",
                "ClientCertHeader",
                "Cloudflare",
                "CloudFoundry",
                "Envoy",
                "GoogleCloudLoadBalancer",
                "HAProxy",
                "Nginx",
                "Traefik",
            ],
            "sources.server": ["ServerTLS"],
            "sources.source": ["Absence", "Source"],
        },
    )
