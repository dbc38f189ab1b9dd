"""An internal service that is protected by a private CA and SPIFFE IDs, as a WSGI and as an ASGI application.

It accepts workloads of one trust domain whose certificates were issued under a root in the file WORKLOAD_ROOTS. The
file may change while the service runs: within seconds, the service trusts the new roots and no longer the old roots.
"""

import os

from flask import Flask, request
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from mtls_middleware import asgi, client_certificate, wsgi
from mtls_middleware.policy import SpiffeTrustDomain
from mtls_middleware.sources import ServerTLS
from mtls_middleware.validation import TrustStore

roots = TrustStore.from_pem_file(os.environ.get("WORKLOAD_ROOTS", "workload-roots.pem"))
workloads = SpiffeTrustDomain("acme.internal")

flask_app = Flask(__name__)


@flask_app.get("/stock")
def stock() -> dict[str, object]:
    return {"in stock": 1200, "for": client_certificate(request).spiffe_id}


async def stock_async(request: Request) -> JSONResponse:
    return JSONResponse({"in stock": 1200, "for": client_certificate(request).spiffe_id})


# The accepted difference between clocks, in seconds. Use less than the default if certificates are valid for minutes.
skew = float(os.environ.get("CLOCK_SKEW", "60"))
wsgi_app = wsgi.protect(flask_app.wsgi_app, source=ServerTLS(), trust_store=roots, allow=workloads, clock_skew=skew)
asgi_app = asgi.protect(
    Starlette(routes=[Route("/stock", stock_async)]),
    source=ServerTLS(),
    trust_store=roots,
    allow=workloads,
    clock_skew=skew,
)
