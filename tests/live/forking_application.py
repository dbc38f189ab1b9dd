"""An application that fetches keys, for servers that fork. `WARM=1`: it validates a token while it is imported."""

import json
import os
import threading
import time
from collections.abc import Iterable
from typing import Any

from mtls_middleware.resource_server import JWTAccessTokens
from mtls_middleware.sources import Nginx
from mtls_middleware.testing import TESTING_ENVIRON
from mtls_middleware.wsgi import protect

IMPORTED_IN = os.getpid()
ticks: list[float] = []


def _tick() -> None:
    """Run as the threads of the library do: without a request."""
    while True:
        ticks.append(time.monotonic())
        time.sleep(0.02)


def _names(environ: Any, start_response: Any) -> Iterable[bytes]:
    if not ticks:
        threading.Thread(target=_tick, daemon=True).start()
    threads = sorted(each.name for each in threading.enumerate() if each.name.startswith("mtls-middleware"))
    start_response("200 OK", [("Content-Type", "application/json")])
    seen = {"process": os.getpid(), "imported_in": IMPORTED_IN, "threads": threads, "ticks": len(ticks)}
    return [json.dumps(seen).encode()]


tokens = JWTAccessTokens(
    issuer=os.environ["ISSUER"], audience=os.environ["AUDIENCE"], jwks_uri=os.environ["JWKS_URI"], allow_http=True
)
source = Nginx(
    shared_secret=("MtlsProxySecret", os.environ["MTLS_PROXY_SECRET"]),
    certificate_header="MtlsClientCert",
    verify_header="MtlsClientVerify",
)
app = protect(_names, source=source, tokens=tokens)

if "WARM" in os.environ:
    request = {**TESTING_ENVIRON, **json.loads(os.environ["WARM"]), "REQUEST_METHOD": "GET", "PATH_INFO": "/"}
    statuses: list[str] = []
    list(app(request, lambda status, headers: statuses.append(status)))
    assert statuses == ["200 OK"], statuses
