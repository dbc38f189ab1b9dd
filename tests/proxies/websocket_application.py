"""Answers requests and websockets with the certificate's thumbprint and the values of Upgrade that arrived.

`SOURCE` (environment) is the source, as Python code.
"""

import json
import os
from typing import Any

from mtls_middleware import asgi, client_certificate, sources
from tests.exports import exported

SOURCE = eval(os.environ["SOURCE"], {**exported(sources), "os": os})


async def report(scope: dict[str, Any], receive: Any, send: Any) -> None:
    certificate = client_certificate(scope)
    upgrade = [value.decode("latin-1") for name, value in scope["headers"] if name == b"upgrade"]
    text = json.dumps(
        {"type": scope["type"], "thumbprint": certificate and certificate.thumbprint, "upgrade": upgrade}
    ).encode()
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.send", "text": text.decode()})
        await receive()
        return
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(text))]})
    await send({"type": "http.response.body", "body": text})


asgi_application = asgi.ClientCertificateMiddleware(report, SOURCE)
