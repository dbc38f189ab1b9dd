"""One of two services that call each other with SPIFFE certificates and certificate-bound tokens.

`python two_services.py NAME PEER_NAME PEER_URL PORT` serves until it is stopped. The current folder contains the files
that spiffe-helper writes: `svid.pem`, `svid_key.pem` and `svid_bundle.pem`. They may be replaced at any time, without a
restart: the service presents the new certificate to its clients and to the peer, and requests new tokens for it.

Environment variables:

    ISSUER   the URL of the authorization server. Each service is a client with its SPIFFE ID as registered name.
"""

import asyncio
import contextlib
import os
import ssl
import sys
from collections import Counter

import httpx2
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from mtls_middleware import access_token, client_certificate
from mtls_middleware.asgi import protect
from mtls_middleware.client import AsyncCertificateTransport, CertificateBoundAuth, CertificateFiles
from mtls_middleware.policy import ANYONE, SpiffeID
from mtls_middleware.resource_server import JWTAccessTokens
from mtls_middleware.sources import ServerTLS
from mtls_middleware.validation import SpiffeTrust

TRUST_DOMAIN, BUNDLE = "acme.internal", "svid_bundle.pem"
AUDIENCE, SCOPE = "https://api.example", "work"
own = CertificateFiles("svid.pem", "svid_key.pem")


async def work(request: Request) -> JSONResponse:
    """The work of this service, for its peer only."""
    certificate, token = client_certificate(request), access_token(request)
    return JSONResponse(
        {"caller": certificate.spiffe_id, "client_id": token.client_id, "thumbprint": certificate.thumbprint}
    )


def application(name: str, peer: str, peer_url: str) -> Starlette:
    """The application before it is protected: `/work` is for the peer, and `/call` calls the peer."""
    auth = CertificateBoundAuth(
        issuer=os.environ["ISSUER"],
        client_id=name,
        certificate=own,
        scopes=[SCOPE],
        token_hosts=["127.0.0.1"],  # the host of the mtls_endpoint_aliases of the sample authorization server
        origins=[peer_url],
        roots=BUNDLE,
    )
    client = httpx2.AsyncClient(transport=AsyncCertificateTransport(own, roots=BUNDLE), auth=auth, timeout=30)

    async def call(request: Request) -> JSONResponse:
        """Call the peer `count` times at once. Returns the statuses, and the number of certificates presented."""
        count = int(request.query_params.get("count", "1"))
        responses = await asyncio.gather(*(client.get(f"{peer_url}/work") for _ in range(count)))
        statuses = Counter(str(each.status_code) for each in responses)
        presented = {each.json().get("thumbprint") for each in responses}
        return JSONResponse({"peer": peer, "statuses": statuses, "thumbprints": sorted(filter(None, presented))})

    return Starlette(routes=[Route("/work", work), Route("/call", call)])


async def serve(name: str, peer: str, peer_url: str, port: int) -> None:
    # `/call` is open only because this is an example: it has no clients of its own.
    app = protect(
        application(name, peer, peer_url),
        source=ServerTLS(),
        trust_store=SpiffeTrust({TRUST_DOMAIN: [BUNDLE]}),
        allow={"/": SpiffeID(f"spiffe://{TRUST_DOMAIN}/{peer}"), "/call": ANYONE},
        tokens=JWTAccessTokens(
            issuer=os.environ["ISSUER"],
            audience=AUDIENCE,
            jwks_uri=f"{os.environ['ISSUER']}/jwks.json",
            ssl_context=ssl.create_default_context(cafile=BUNDLE),
        ),
        scopes=[SCOPE],
        exempt=["/call"],
        clock_skew=5,  # SVIDs may be valid for minutes
    )
    config = uvicorn.Config(
        app,
        host="127.0.0.1",
        port=port,
        http="mtls_middleware.servers.uvicorn_tls:HTTPTools",
        ws="none",
        proxy_headers=False,
        log_level="warning",
        ssl_certfile="svid.pem",
        ssl_keyfile="svid_key.pem",
        ssl_ca_certs=BUNDLE,
        ssl_cert_reqs=ssl.CERT_OPTIONAL,
    )
    config.load()
    renewal = asyncio.create_task(present_renewed(config.ssl))
    await uvicorn.Server(config).serve()
    renewal.cancel()


async def present_renewed(tls: ssl.SSLContext | None) -> None:
    """Load the certificate of the server again when its files were replaced. uvicorn reads them only once."""
    presented = own.current()
    while True:
        await asyncio.sleep(1)
        if own.current() != presented:
            with contextlib.suppress(ssl.SSLError):  # the files are being replaced: try again in a second
                tls.load_cert_chain("svid.pem", "svid_key.pem")
                presented = own.current()


if __name__ == "__main__":
    asyncio.run(serve(*sys.argv[1:4], int(sys.argv[4])))
