"""The formats in which a proxy can tell of a certificate, each as a source that trusts the tests' proxy."""

from mtls_middleware import sources
from mtls_middleware.sources import HeaderSource
from tests.layers.world import TRUSTED

# Each under its own names.
SOURCES: dict[str, HeaderSource] = {
    "RFC 9440": sources.ClientCertHeader(trusted_proxies=TRUSTED, verified_by_proxy=True),
    "nginx": sources.Nginx(trusted_proxies=TRUSTED),
    "ingress-nginx": sources.Nginx(
        trusted_proxies=TRUSTED, certificate_header="ssl-client-cert", verify_header="ssl-client-verify"
    ),
    "Apache": sources.Apache(trusted_proxies=TRUSTED),
    "HAProxy": sources.HAProxy(trusted_proxies=TRUSTED),
    "Envoy": sources.Envoy(trusted_proxies=TRUSTED, verified_by_proxy=True),
    "Traefik": sources.Traefik(trusted_proxies=TRUSTED, verified_by_proxy=True),
    "Caddy": sources.Caddy(trusted_proxies=TRUSTED, verified_by_proxy=True),
    "AWS verify": sources.AWSLoadBalancer(mode="verify", trusted_proxies=TRUSTED),
    "AWS passthrough": sources.AWSLoadBalancer(mode="passthrough", trusted_proxies=TRUSTED),
    "Google": sources.GoogleCloudLoadBalancer(trusted_proxies=TRUSTED),
    "Azure": sources.AzureAppService(trusted_proxies=TRUSTED),
    "Cloudflare": sources.Cloudflare(trusted_proxies=TRUSTED),
}
