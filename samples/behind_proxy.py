"""The Flask and the Starlette API behind a proxy, named by PROXY: one more layer attaches the certificate.

`mtls-middleware proxy-config nginx --output FOLDER` (or another proxy) writes the proxy's configuration and the secret,
and prints the source for it, as below. Start the application with the environment of FOLDER/application.env. Your own
application gives that source to `protect()`, instead of `ServerTLS()`.
"""

import os
from typing import Any

from flask_app import app as flask_app
from starlette_app import app as starlette_app

from mtls_middleware import asgi, wsgi
from mtls_middleware.sources import Apache, Caddy, ClientCertHeader, Envoy, HAProxy, Nginx, Traefik

# The address says which machine speaks; the secret, that it is the proxy.
TRUST: dict[str, Any] = {
    "trusted_proxies": ["127.0.0.1"],
    "shared_secret": ("MtlsProxySecret", os.environ["MTLS_PROXY_SECRET"].split(",")),
}
OURS = {"certificate_header": "MtlsClientCert", "verify_header": "MtlsClientVerify"}
# These have a hyphen in a name that the standard or the proxy chose.
HYPHENS: dict[str, Any] = {"proxy_deletes_underscores": True}
SOURCES = {
    "nginx": Nginx(**OURS, **TRUST),
    "haproxy": HAProxy(**OURS, chain_header="MtlsClientCertChain", **TRUST),
    "apache": Apache(**OURS, **TRUST),
    "envoy": Envoy(verify_header="MtlsClientVerify", **HYPHENS, **TRUST),
    "traefik": Traefik(verified_by_proxy=True, **HYPHENS, **TRUST),
    "caddy": Caddy(certificate_header="MtlsClientCert", verified_by_proxy=True, **TRUST),
    "rfc9440": ClientCertHeader(verify_header="MtlsClientVerify", **HYPHENS, **TRUST),
}
source = SOURCES[os.environ.get("PROXY", "nginx")]

wsgi_app = wsgi.ClientCertificateMiddleware(flask_app, source)
asgi_app = asgi.ClientCertificateMiddleware(starlette_app, source)
