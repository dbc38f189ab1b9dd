"""Users and scopes in Starlette and FastAPI: `request.user`, `request.auth.scopes` and `@requires`."""

import threading
from typing import Annotated, Any

import pytest
from fastapi import Depends, FastAPI
from starlette.applications import Starlette
from starlette.authentication import requires
from starlette.middleware import Middleware
from starlette.middleware.authentication import AuthenticationMiddleware
from starlette.responses import JSONResponse
from starlette.routing import Route, WebSocketRoute
from starlette.testclient import TestClient

from mtls_middleware import ConfigurationError, access_token, client_certificate, oauth_client
from mtls_middleware.asgi import protect
from mtls_middleware.integrations import CertificateIdentity, CertificateUser
from mtls_middleware.integrations.fastapi_routes import install, require_certificate
from mtls_middleware.integrations.starlette_authentication import CertificateAuthenticationBackend
from mtls_middleware.policy import UserPrincipalName
from mtls_middleware.sources import ServerTLS
from mtls_middleware.testing import TokenIssuer
from tests.integrations.test_certificate_user import ALICE, NAMESAKE, STAFF, STORE, USERS, upn

ALICES = upn(ALICE)
ISSUER = TokenIssuer()
SOURCE = ServerTLS()


async def shown(request: Any) -> JSONResponse:
    user = request.user
    name = user.display_name if hasattr(user, "display_name") else str(user)
    return JSONResponse({"user": name, "is": user_is(user), "scopes": request.auth.scopes})


def user_is(user: Any) -> bool:
    return bool(getattr(user, "is_authenticated", True))


@requires("invoices:read")
async def scoped(request: Any) -> JSONResponse:
    return JSONResponse({})


async def socket(websocket: Any) -> None:
    await websocket.accept()
    await websocket.send_text(websocket.user.display_name)
    await websocket.close()


def client(backend: CertificateAuthenticationBackend, card: Any, extra: Any = (), **options: Any) -> TestClient:
    routes = [*extra, Route("/", shown), Route("/scoped", scoped), WebSocketRoute("/socket", socket)]
    app = Starlette(routes=routes, middleware=[Middleware(AuthenticationMiddleware, backend=backend)])
    options = {"required": False, **options}
    protected = protect(app, source=SOURCE, trust_store=STORE, **options)
    return TestClient(protected if card is None else card.for_source(SOURCE).asgi(protected))


def token(card: Any, *scopes: str, **claims: str) -> dict[str, str]:
    return {"Authorization": "Bearer " + ISSUER.token(certificate=card, scopes=scopes, claims=claims)}


def test_the_user_is_that_of_the_certificate() -> None:
    backend = CertificateAuthenticationBackend(USERS)
    answer = client(backend, ALICES).get("/").json()
    assert answer == {"user": ALICE, "is": True, "scopes": ["authenticated"]}
    with client(backend, ALICES).websocket_connect("/socket") as websocket:
        assert websocket.receive_text() == ALICE


@pytest.mark.parametrize("card", [None, upn(ALICE, ca=NAMESAKE), upn(ALICE, "bob@corp.example")])
def test_any_other_request_has_no_user_and_no_scopes(card: Any) -> None:
    backend = CertificateAuthenticationBackend(USERS)
    assert client(backend, card).get("/").json() == {"user": "", "is": False, "scopes": []}
    assert client(backend, card).get("/scoped").status_code == 403


def test_a_plain_hook_runs_in_a_thread_and_an_async_hook_does_not() -> None:
    threads: list[int] = []
    loops: list[int] = []

    def plain(identity: CertificateIdentity) -> str:
        threads.append(threading.get_ident())
        return f"user {identity.name}"

    async def asynchronous(identity: CertificateIdentity) -> str:
        return plain(identity)

    async def endpoint(request: Any) -> JSONResponse:
        loops.append(threading.get_ident())
        return JSONResponse(str(request.user))

    for hook in (plain, asynchronous):
        users: Any = CertificateUser(by=UserPrincipalName(), issued_by=STAFF.certificate, look_up=hook)
        app = client(CertificateAuthenticationBackend(users), ALICES, extra=[Route("/user", endpoint)])
        assert app.get("/user").json() == f"user {ALICE}"
    assert [thread == loop for thread, loop in zip(threads, loops, strict=True)] == [False, True]


def test_the_scopes_are_those_of_the_token() -> None:
    options = {"required": None, "tokens": ISSUER.access_tokens()}
    app = client(CertificateAuthenticationBackend(USERS), ALICES, **options)
    answer = app.get("/", headers=token(ALICES, "b", "a")).json()
    assert answer == {"user": ALICE, "is": True, "scopes": ["authenticated", "a", "b"]}
    assert app.get("/scoped", headers=token(ALICES, "invoices:read")).status_code == 200
    assert app.get("/scoped", headers=token(ALICES, "a")).status_code == 403


def test_a_token_gives_no_scopes_to_a_certificate_without_a_user() -> None:
    card = upn()
    app = client(CertificateAuthenticationBackend(USERS), card, required=None, tokens=ISSUER.access_tokens())
    answer = app.get("/", headers=token(card, "authenticated", "invoices:read")).json()
    assert answer == {"user": "", "is": False, "scopes": []}


def test_without_users_the_subject_of_the_token_is_the_user() -> None:
    options = {"required": None, "tokens": ISSUER.access_tokens(), "exempt": ["/"]}
    app = client(CertificateAuthenticationBackend(), ALICES, **{**options, "exempt": ()})
    answer = app.get("/", headers=token(ALICES, "a", sub="robot")).json()
    assert answer == {"user": "robot", "is": True, "scopes": ["authenticated", "a"]}
    assert client(CertificateAuthenticationBackend(), ALICES, **options).get("/").json()["is"] is False


@pytest.mark.parametrize("users", [USERS, None], ids=["users", "tokens"])
def test_a_request_without_layers_is_a_configuration_error(users: Any) -> None:
    backend = CertificateAuthenticationBackend(users)
    app = Starlette(routes=[Route("/", shown)], middleware=[Middleware(AuthenticationMiddleware, backend=backend)])
    with pytest.raises(ConfigurationError, match="did not pass through a certificate layer"):
        TestClient(app).get("/")


def test_a_wrong_argument_is_named() -> None:
    with pytest.raises(ConfigurationError, match="expected a CertificateUser, for example CertificateUser"):
        CertificateAuthenticationBackend(UserPrincipalName())  # type: ignore[arg-type]  # wrong on purpose


def test_fastapi_documents_the_certificate_and_its_responses() -> None:
    app = FastAPI()
    install(app)

    @app.get("/")
    def home(certificate: Annotated[Any, Depends(require_certificate())]) -> None:
        pass

    document = app.openapi()
    assert document["components"]["securitySchemes"] == {"mtls": {"type": "mutualTLS"}}
    operation = document["paths"]["/"]["get"]
    assert operation["security"] == [{"mtls": []}]
    assert "403" in operation["responses"]


@pytest.mark.parametrize("accessor", [client_certificate, access_token, oauth_client])
def test_an_accessor_is_no_dependency(accessor: Any) -> None:
    with pytest.raises(ConfigurationError, match="are not dependencies"):

        @FastAPI().get("/")
        def home(found: Annotated[Any, Depends(accessor)]) -> None:
            pass
