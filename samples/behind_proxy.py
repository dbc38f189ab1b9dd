"""The Flask and the Starlette API behind the proxy named in PROXY: an additional layer reads the proxy's headers.

`mtls-middleware proxy-config nginx --output FOLDER` (or another proxy) writes the configuration of the proxy and the
secret, and prints the matching source, as below. Start the application with the environment of FOLDER/application.env.
In your own application, pass that source to `protect()` instead of `ServerTLS()`.
"""

import os
from typing import Any

from flask_app import app as flask_app
from starlette_app import app as starlette_app

from mtls_middleware import asgi, wsgi
from mtls_middleware.sources import Apache, Caddy, ClientCertHeader, Envoy, HAProxy, Nginx, Traefik

# The address identifies the machine of the proxy. The secret proves that the request comes from the proxy itself.
TRUST: dict[str, Any] = {
    "trusted_proxies": ["127.0.0.1"],
    "shared_secret": ("MtlsProxySecret", os.environ["MTLS_PROXY_SECRET"].split(",")),
}
OWN_HEADERS = {"certificate_header": "MtlsClientCert", "verify_header": "MtlsClientVerify"}
# For sources with a hyphen in a header name, which the standard or the proxy determines.
HYPHENS: dict[str, Any] = {"proxy_deletes_underscores": True}
SOURCES = {
    "nginx": Nginx(**OWN_HEADERS, **TRUST),
    "haproxy": HAProxy(**OWN_HEADERS, chain_header="MtlsClientCertChain", **TRUST),
    "apache": Apache(**OWN_HEADERS, **TRUST),
    "envoy": Envoy(verify_header="MtlsClientVerify", **HYPHENS, **TRUST),
    "traefik": Traefik(verified_by_proxy=True, **HYPHENS, **TRUST),
    "caddy": Caddy(certificate_header="MtlsClientCert", verified_by_proxy=True, **TRUST),
    "rfc9440": ClientCertHeader(verify_header="MtlsClientVerify", **HYPHENS, **TRUST),
}
source = SOURCES[os.environ.get("PROXY", "nginx")]

wsgi_app = wsgi.ClientCertificateMiddleware(flask_app, source)
asgi_app = asgi.ClientCertificateMiddleware(starlette_app, source)
