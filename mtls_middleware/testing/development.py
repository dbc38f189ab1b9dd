"""`context`: the TLS context of `mtls-middleware dev-ca` for werkzeug's development server, which `flask run` starts.

`flask run` itself cannot request client certificates. It accepts the name of a TLS context as `--cert`:

    MTLS_DEV_CA=.mtls-dev flask run --cert mtls_middleware.testing.development.context

The environment variable `MTLS_DEV_CA` sets the folder (default: `.mtls-dev`). The context requests a client
certificate, and accepts connections without one. Use it in development only.
"""

import os
import ssl
from pathlib import Path

context: ssl.SSLContext


def __getattr__(name: str) -> ssl.SSLContext:
    """Create the context when it is first used. Raises `OSError` if `dev-ca` has not written the files."""
    if name != "context":
        raise AttributeError(name)
    folder = Path(os.environ.get("MTLS_DEV_CA", ".mtls-dev"))
    created = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=folder / "ca.pem")
    created.load_cert_chain(folder / "server.pem", folder / "server-key.pem")
    created.verify_mode = ssl.CERT_OPTIONAL
    globals()["context"] = created
    return created
