"""What `probe` looks at behind a proxy: one resource for CN=victim alone, guarded by us, or by ten careless lines.

`SOURCE` (environment) says which source stands before the guarded one.
"""

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from cryptography import x509

from mtls_middleware import asgi, sources, wsgi
from mtls_middleware.policy import Subject
from tests.exports import exported

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

SOURCE = eval(os.environ["SOURCE"], {**exported(sources), "os": os})


def let_in(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
    start_response("200 OK", [("Content-Length", "0")])
    return [b""]


async def let_in_asgi(scope: dict[str, Any], receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
    await send({"type": "http.response.body", "body": b""})


wsgi_application = wsgi.protect(let_in, source=SOURCE, allow=Subject("CN=victim"))
asgi_application = asgi.protect(let_in_asgi, source=SOURCE, allow=Subject("CN=victim"))


def careless(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
    """The header parser that people write."""
    if environ.get("HTTP_X_SSL_CLIENT_VERIFY") == "SUCCESS":
        try:
            pem = unquote(environ["HTTP_X_SSL_CLIENT_CERT"])
            if x509.load_pem_x509_certificate(pem.encode()).subject.rfc4514_string() == "CN=victim":
                return let_in(environ, start_response)
        except (KeyError, ValueError):
            pass
    start_response("403 Forbidden", [("Content-Length", "0")])
    return [b""]
