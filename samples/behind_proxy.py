"""The Flask and the Starlette API behind a proxy, which PROXY names: one more layer tells them of the certificate.

`mtls-middleware proxy-config nginx` (or another) prints the proxy's configuration, and the line for it below. An
application of your own hands that source to `protect()` itself, in the place of `ServerTLS()`.
"""

import os

from flask_app import app as flask_app
from starlette_app import app as starlette_app

from mtls_middleware import asgi, wsgi
from mtls_middleware.sources import Apache, Caddy, ClientCertHeader, Envoy, HAProxy, Nginx, Traefik

SOURCES = {
    "nginx": Nginx(trusted_proxies=["127.0.0.1"]),
    "haproxy": HAProxy(trusted_proxies=["127.0.0.1"], chain_header="X-SSL-Client-Chain"),
    "apache": Apache(trusted_proxies=["127.0.0.1"]),
    "envoy": Envoy(trusted_proxies=["127.0.0.1"], verify_header="X-SSL-Client-Verify"),
    "traefik": Traefik(trusted_proxies=["127.0.0.1"], verified_by_proxy=True),
    "caddy": Caddy(trusted_proxies=["127.0.0.1"], verified_by_proxy=True),
    "rfc9440": ClientCertHeader(trusted_proxies=["127.0.0.1"], verify_header="X-SSL-Client-Verify"),
}
source = SOURCES[os.environ.get("PROXY", "nginx")]

wsgi_app = wsgi.ClientCertificateMiddleware(flask_app, source)
asgi_app = asgi.ClientCertificateMiddleware(starlette_app, source)
