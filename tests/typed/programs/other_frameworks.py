"""Quart, Litestar and Falcon, and servers that take an application as an argument."""

import falcon.asgi
import uvicorn
from asgiref.typing import ASGI3Application
from litestar import Litestar, get
from quart import Quart

from mtls_middleware.asgi import protect
from mtls_middleware.sources import ServerTLS

quart_app = Quart("shop")
quart_app.asgi_app = protect(quart_app.asgi_app, source=ServerTLS())


@get("/invoices")
async def invoices() -> list[str]:
    return []


litestar_app = protect(Litestar([invoices]), source=ServerTLS())
falcon_app = falcon.asgi.App()
falcon_protected = protect(falcon_app, source=ServerTLS())


def typed(app: ASGI3Application) -> ASGI3Application:
    return protect(app, source=ServerTLS())


def run() -> None:
    uvicorn.run(litestar_app)
