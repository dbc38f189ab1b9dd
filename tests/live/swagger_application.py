"""The FastAPI application of docs/integrations.md on a server that ends TLS, with Swagger UI from `node_modules`.

FastAPI's own `/docs` loads Swagger UI from a content delivery network. `/picture` also opens the dialog "Authorize".
"""

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import HTMLResponse, PlainTextResponse
from fastapi.staticfiles import StaticFiles

from mtls_middleware.sources import ServerTLS
from tests.integrations.page_code import FILES

SWAGGER_UI = Path(__file__).parent / "peers" / "node_modules" / "swagger-ui-dist"
# Wait for the page of Swagger UI, send the request of the operation /admin, and open the dialog.
CLICKS = """
const operation = "#operations-default-admin_admin_get";
const steps = [".opblock-summary-control", ".try-out__btn", ".execute", ".live-responses-table .response"]
    .map(step => `${operation} ${step}`).concat(".btn.authorize", ".dialog-ux .modal-ux");
const timer = setInterval(() => {
    const found = document.querySelector(steps[0]);
    if (!found) return;
    steps.shift();
    if (found.matches("button")) found.click();
    if (!steps.length) clearInterval(timer);
}, 50);
"""


def _documented_application() -> Any:
    """Execute the code of the page, with the server instead of a proxy as the source."""
    proxy = ModuleType("proxy")
    vars(proxy)["source"] = ServerTLS()
    sys.modules["proxy"] = proxy
    names: dict[str, Any] = {"__name__": "admin_fastapi"}
    exec(FILES["admin_fastapi.py"], names)
    return names


_names = _documented_application()
api, app = _names["api"], _names["app"]
api.mount("/swagger-ui", StaticFiles(directory=SWAGGER_UI))


@api.get("/clicks.js", include_in_schema=False)
async def clicks() -> PlainTextResponse:
    return PlainTextResponse(CLICKS, media_type="text/javascript")


@api.get("/picture", include_in_schema=False)
async def picture() -> HTMLResponse:
    page = get_swagger_ui_html(
        openapi_url="/openapi.json",
        title="Swagger UI",
        swagger_js_url="/swagger-ui/swagger-ui-bundle.js",
        swagger_css_url="/swagger-ui/swagger-ui.css",
        swagger_favicon_url="/swagger-ui/favicon-32x32.png",
        swagger_ui_parameters={"defaultModelsExpandDepth": -1},
    )
    # Swagger UI makes the page behind a dialog dark; the picture shows both.
    lighter = "<style>.swagger-ui .dialog-ux .backdrop-ux { background: rgb(0 0 0 / 10%) }</style>"
    text = bytes(page.body).decode().replace("</body>", f'{lighter}<script src="/clicks.js"></script></body>')
    return HTMLResponse(text)
