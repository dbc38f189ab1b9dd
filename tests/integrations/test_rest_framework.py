"""Django REST framework behind the middleware: users by certificate, tokens with scopes, and their 401 and 403."""

from collections.abc import Iterator
from typing import Any

import pytest

from mtls_middleware import ConfigurationError
from mtls_middleware.policy import DNSName, UserPrincipalName
from mtls_middleware.testing import TokenIssuer
from tests.integrations import django_users
from tests.integrations.django_users import CERTIFICATE, Browser, site
from tests.integrations.test_certificate_user import ALICE, PARTNER, upn

from django.contrib.auth import get_user_model  # isort: skip
from django.urls import path  # isort: skip
from rest_framework.permissions import AllowAny, IsAuthenticated  # isort: skip
from rest_framework.renderers import JSONRenderer  # isort: skip
from rest_framework.response import Response  # isort: skip
from rest_framework.views import APIView  # isort: skip

from mtls_middleware.integrations.rest_framework import (  # isort: skip
    BoundTokenAuthentication,
    CertificateAuthentication,
    require_certificate,
    require_scopes,
)

ALICES = upn(ALICE)
ISSUER = TokenIssuer()
TOKENS = {"tokens": ISSUER.access_tokens(), "exempt": ["/open/*"]}


class Base(APIView):
    # ruff: noqa: RUF012 (as in the views of users)
    renderer_classes = [JSONRenderer]
    authentication_classes: list[Any] = [CertificateAuthentication]
    permission_classes: list[Any] = [IsAuthenticated]

    def get(self, request: Any) -> Response:
        auth = getattr(request.auth, "thumbprint", getattr(request.auth, "client_id", None))
        return Response({"user": request.user.username, "kind": type(request.user).__name__, "auth": auth})

    post = get


class Certified(Base):
    permission_classes = [require_certificate(UserPrincipalName(ALICE))]


class Bearer(Base):
    authentication_classes = [BoundTokenAuthentication]


class Scoped(Bearer):
    permission_classes = [IsAuthenticated, require_scopes("invoices:read")]


class OnlyScoped(Base):
    authentication_classes = []
    permission_classes = [require_scopes("invoices:read")]


class OfOurUser(Bearer):
    class Authentication(BoundTokenAuthentication):
        def get_user(self, token: Any) -> Any:
            return get_user_model().objects.filter(username=token.subject).first()

    authentication_classes = [Authentication]


class Either(Base):
    authentication_classes = [BoundTokenAuthentication, CertificateAuthentication]


class Anyone(Base):
    permission_classes = [AllowAny]


urlpatterns = [
    path("user", Base.as_view()),
    path("certified", Certified.as_view()),
    path("bearer", Bearer.as_view()),
    path("scoped", Scoped.as_view()),
    path("ours", OfOurUser.as_view()),
    path("anyone", Anyone.as_view()),
    path("open/bearer", Bearer.as_view()),
    path("open/scoped", Scoped.as_view()),
    path("open/only-scoped", OnlyScoped.as_view()),
    path("open/either", Either.as_view()),
]


@pytest.fixture(autouse=True)
def _database() -> Iterator[None]:
    with django_users.database():
        yield


@pytest.fixture(params=[False, True], ids=["wsgi", "asgi"])
def is_async(request: pytest.FixtureRequest) -> Iterator[bool]:
    # Without sessions: the layers alone.
    with site(ROOT_URLCONF=__name__, MIDDLEWARE=[CERTIFICATE]):
        yield request.param


def alice() -> Any:
    return get_user_model().objects.create(username=ALICE)


def token(card: Any, *scopes: str, **claims: str) -> dict[str, str]:
    return {"Authorization": "Bearer " + ISSUER.token(certificate=card, scopes=scopes, claims=claims)}


def test_the_certificate_is_the_user(is_async: bool) -> None:
    alice()
    response = Browser(is_async, ALICES).get("/user")
    assert (response.status_code, response.json()) == (
        200,
        {"user": ALICE, "kind": "User", "auth": ALICES.thumbprint},
    )
    assert "sessionid" not in response.cookies


@pytest.mark.parametrize("card", [None, upn("bob@corp.example"), upn(ALICE, ca=PARTNER), upn(ALICE, "b@c.example")])
def test_any_other_certificate_is_403_without_a_challenge(is_async: bool, card: Any) -> None:
    alice()
    response = Browser(is_async, card).get("/user")
    assert response.status_code == 403
    assert "WWW-Authenticate" not in response.headers
    assert Browser(is_async, card).get("/anyone").json()["kind"] == "AnonymousUser"


def test_an_inactive_user_is_403(is_async: bool) -> None:
    get_user_model().objects.create(username=ALICE, is_active=False)
    assert Browser(is_async, ALICES).get("/user").status_code == 403


FROM_OTHER_SITES = [
    {"Origin": "https://evil.example"},
    {"Sec-Fetch-Site": "cross-site"},
    {"Referer": "https://evil.example"},
]


@pytest.mark.parametrize("fields", [*FROM_OTHER_SITES, {"Cookie": "a=b"}], ids=str)
def test_a_browser_needs_the_csrf_token(is_async: bool, fields: dict[str, str]) -> None:
    alice()
    browser = Browser(is_async, ALICES, enforce_csrf_checks=True)
    response = browser.post("/user", headers=fields)
    assert response.status_code == 403
    assert "CSRF Failed" in response.json()["detail"]
    assert browser.get("/user", headers=fields).status_code == 200


def test_a_program_needs_no_csrf_token(is_async: bool) -> None:
    alice()
    assert Browser(is_async, ALICES, enforce_csrf_checks=True).post("/user").status_code == 200


def test_a_rule_is_a_permission(is_async: bool) -> None:
    assert Browser(is_async, ALICES).get("/certified").status_code == 200
    for card, code in ((None, "client_certificate_required"), (upn("b@corp.example"), "client_certificate_refused")):
        response = Browser(is_async, card).get("/certified")
        assert (response.status_code, response.json()["error"]) == (403, code)
        assert response.headers["Cache-Control"] == "no-store"


def test_a_bound_token_is_the_user(is_async: bool) -> None:
    with site(ROOT_URLCONF=__name__, MIDDLEWARE=[CERTIFICATE], setting=TOKENS):
        response = Browser(is_async, ALICES).get("/bearer", headers=token(ALICES, sub="robot", client_id="app"))
        assert response.json() == {"user": "robot", "kind": "TokenUser", "auth": "app"}
        other = Browser(is_async, upn(ALICE)).get("/bearer", headers=token(ALICES))
        assert (other.status_code, other.json()["error"]) == (401, "invalid_token")


def test_a_token_may_be_for_a_user_of_the_database(is_async: bool) -> None:
    alice()
    with site(ROOT_URLCONF=__name__, MIDDLEWARE=[CERTIFICATE], setting=TOKENS):
        browser = Browser(is_async, ALICES)
        assert browser.get("/ours", headers=token(ALICES, sub=ALICE)).json()["kind"] == "User"
        unknown = browser.get("/ours", headers=token(ALICES, sub="bob"))
        assert unknown.status_code == 401
        assert unknown.headers["WWW-Authenticate"] == 'Bearer realm="protected"'


def test_scopes_are_permissions(is_async: bool) -> None:
    with site(ROOT_URLCONF=__name__, MIDDLEWARE=[CERTIFICATE], setting=TOKENS):
        browser = Browser(is_async, ALICES)
        assert browser.get("/scoped", headers=token(ALICES, "invoices:read", "b")).status_code == 200
        refused = browser.get("/scoped", headers=token(ALICES, "invoices"))
        assert (refused.status_code, refused.json()["error"]) == (403, "insufficient_scope")
        challenge = refused.headers["WWW-Authenticate"]
        assert 'error="insufficient_scope"' in challenge
        assert 'scope="invoices:read"' in challenge
        assert refused.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize("path", ["/open/bearer", "/open/scoped", "/open/only-scoped"])
def test_without_a_token_the_response_is_401_with_a_challenge(is_async: bool, path: str) -> None:
    with site(ROOT_URLCONF=__name__, MIDDLEWARE=[CERTIFICATE], setting=TOKENS):
        response = Browser(is_async, ALICES).get(path)
        assert response.status_code == 401
        assert response.headers["WWW-Authenticate"].startswith('Bearer realm="protected"')


def test_the_second_class_is_tried_if_there_is_no_token(is_async: bool) -> None:
    alice()
    with site(ROOT_URLCONF=__name__, MIDDLEWARE=[CERTIFICATE], setting=TOKENS):
        response = Browser(is_async, ALICES).get("/open/either")
        assert response.json()["user"] == ALICE


@pytest.mark.parametrize("path", ["/user", "/bearer", "/certified", "/open/only-scoped"])
def test_without_layers_the_response_is_500(is_async: bool, path: str) -> None:
    with site(ROOT_URLCONF=__name__, MIDDLEWARE=[]):
        response = Browser(is_async, ALICES, raise_request_exception=False).get(path)
        assert response.status_code == 500


def test_wrong_arguments_are_named() -> None:
    with pytest.raises(ConfigurationError, match="permission_classes"):
        require_scopes(["invoices:read"])  # type: ignore[arg-type]  # wrong on purpose
    with pytest.raises(ConfigurationError, match="require_certificate got"):
        require_certificate(lambda certificate: True)  # type: ignore[arg-type]  # wrong on purpose
    with pytest.raises(ConfigurationError, match="without a value"):
        require_certificate(DNSName())
