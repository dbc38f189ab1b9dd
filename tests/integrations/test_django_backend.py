"""The hooks of `CertificateUserBackend`, the admin by certificate, and the system checks."""

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from asgiref.sync import sync_to_async

from mtls_middleware import ConfigurationError
from mtls_middleware.integrations import CertificateIdentity, CertificateUser
from mtls_middleware.policy import Thumbprint, UserPrincipalName
from mtls_middleware.sources import ServerTLS
from mtls_middleware.testing import TokenIssuer
from mtls_middleware.testing.django import CertificateClient
from tests.integrations import django_users
from tests.integrations.django_users import BACKEND, CERTIFICATE, MIDDLEWARE, USER, Browser, site
from tests.integrations.test_certificate_user import ALICE, STAFF, upn

from django.contrib.auth import get_user_model  # isort: skip
from django.contrib.auth.models import Group  # isort: skip
from django.core.management import call_command  # isort: skip
from django.core.management.base import SystemCheckError  # isort: skip
from django.urls import path, reverse  # isort: skip

from mtls_middleware.integrations.django.backends import CertificateUserBackend  # isort: skip
from mtls_middleware.integrations.django import checks  # isort: skip
from mtls_middleware.integrations.django.checks import check_settings  # isort: skip
from mtls_middleware.integrations.django.middleware import CertificateUserMiddleware  # isort: skip

ALICES = upn(ALICE)
PAGE = (Path(__file__).resolve().parents[2] / "docs" / "users.md").read_text("utf-8")
FILES = dict(re.findall(r"```python\n# (\S+)\n(.*?)```", PAGE, re.DOTALL))


@pytest.fixture(autouse=True)
def _database() -> Iterator[None]:
    with django_users.database():
        yield


both = pytest.mark.parametrize("is_async", [False, True], ids=["wsgi", "asgi"])


def create(name: str = ALICE, **options: Any) -> Any:
    return get_user_model().objects.create(username=name, **options)


class Creating(CertificateUserBackend):
    """Creates users, and maps the units of the certificate to groups."""

    def create_user(self, identity: CertificateIdentity) -> Any:
        return get_user_model().objects.create(username=identity.name)

    def configure_user(self, user: Any, identity: CertificateIdentity) -> Any:
        units = identity.certificate.subject_attributes("OU")
        user.groups.set([Group.objects.get_or_create(name=each)[0] for each in units])
        return user


class Rejecting(CertificateUserBackend):
    def configure_user(self, user: Any, identity: CertificateIdentity) -> Any:
        return None


class ByEmail(CertificateUserBackend):
    name_field = "email"


def backend(kind: type) -> list[str]:
    return [f"{__name__}.{kind.__name__}"]


def card(unit: str) -> Any:
    return STAFF.issue(f"CN=card,OU={unit}", user_principal_names=[ALICE])


@both
def test_a_hook_creates_users_and_maps_groups_of_each_certificate(is_async: bool) -> None:
    with site(AUTHENTICATION_BACKENDS=backend(Creating)):
        browser = Browser(is_async, card("sales"))
        for unit in ("sales", "sales", "audit"):
            browser.client.use(card(unit))
            assert browser.user() == ALICE
            (user,) = get_user_model().objects.all()
            assert [each.name for each in user.groups.all()] == [unit]


@both
def test_no_user_is_created_by_default(is_async: bool) -> None:
    with site():
        assert Browser(is_async, ALICES).user() == ""
    assert not get_user_model().objects.exists()


def test_the_groups_are_set_once_for_each_session() -> None:
    with site(AUTHENTICATION_BACKENDS=backend(Creating)):
        browser, issued = Browser(False, None), card("sales")
        browser.client.use(issued)
        browser.user()
        user = get_user_model().objects.get()
        user.groups.clear()
        browser.user()
        assert not user.groups.exists()


@both
def test_a_hook_can_reject_a_user(is_async: bool) -> None:
    create()
    with site(AUTHENTICATION_BACKENDS=backend(Rejecting)):
        assert Browser(is_async, ALICES).user() == ""


def test_the_name_may_be_in_another_field() -> None:
    create("alice", email=ALICE)
    create(ALICE)
    with site(AUTHENTICATION_BACKENDS=backend(ByEmail)):
        assert Browser(False, ALICES).user() == "alice"


def documented(file: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A file of docs/users.md as a module that Django can import."""
    module = ModuleType("documented_module")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    exec(FILES[file], vars(module))
    return module


def test_the_documented_backend_creates_users_with_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    documented("accounts/backends.py", monkeypatch)
    Group.objects.create(name="sales")
    with site(AUTHENTICATION_BACKENDS=["documented_module.SmartCardBackend"]):
        assert Browser(False, card("sales")).user() == ALICE
    user = get_user_model().objects.get()
    assert [each.name for each in user.groups.all()] == ["sales"]
    assert not user.has_usable_password()


def test_the_documented_views_of_rest_framework_work(monkeypatch: pytest.MonkeyPatch) -> None:
    create()
    api, issuer = documented("accounts/api.py", monkeypatch), TokenIssuer()
    urls = ModuleType("documented_urls")
    views = [path("profile", api.Profile.as_view()), path("invoices", api.Invoices.as_view())]
    vars(urls).update(urlpatterns=views)
    monkeypatch.setitem(sys.modules, urls.__name__, urls)
    setting = {"tokens": issuer.access_tokens(), "exempt": ["/profile"]}
    with site(ROOT_URLCONF=urls.__name__, setting=setting):
        client = CertificateClient(ALICES, headers={"Accept": "application/json"})
        assert client.get("/profile").json() == {"user": ALICE, "certificate": ALICES.thumbprint}
        for scopes, status in ((["invoices:read"], 200), (["other"], 403)):
            token = issuer.token(certificate=ALICES, scopes=scopes)
            assert client.get("/invoices", headers={"Authorization": f"Bearer {token}"}).status_code == status
        assert client.get("/invoices").status_code == 401


STORED = [
    ([ALICE], "alice@CORP.example", ALICE),
    (["alice@CORP.example"], "alice@CORP.example", "alice@CORP.example"),
    (["alice@CORP.example"], ALICE, ""),  # store the compared form
    (["ALICE@corp.example"], ALICE, ""),
    ([ALICE, "alice@CORP.example"], "alice@CORP.example", ""),  # two accounts
]


@pytest.mark.parametrize(("stored", "presented", "expected"), STORED)
def test_stored_names_are_compared_as_names_of_certificates(stored: list[str], presented: str, expected: str) -> None:
    for each in stored:
        create(each)
    with site():
        assert Browser(False, upn(presented)).user() == expected


def test_a_collation_that_equates_letters_finds_no_other_user(monkeypatch: pytest.MonkeyPatch) -> None:
    """A database such as MySQL may return a user whose name differs in case or accents."""
    create("\u00e1lice@corp.example")
    manager = get_user_model()._default_manager
    monkeypatch.setattr(type(manager), "filter", lambda self, **_: self.all())
    with site():
        assert Browser(False, ALICES).user() == ""


def find(identity: CertificateIdentity) -> Any:
    return get_user_model().objects.filter(email=identity.name).first()


async def afind(identity: CertificateIdentity) -> Any:
    return await sync_to_async(find)(identity)


@both
@pytest.mark.parametrize("look_up", [find, afind], ids=["plain", "async"])
def test_look_up_finds_the_user(is_async: bool, look_up: Any) -> None:
    create("alice", email=ALICE)
    users = CertificateUser(by=UserPrincipalName(), issued_by=STAFF.certificate, look_up=look_up)
    with site(setting={"user": users}):
        browser = Browser(is_async, ALICES)
        assert [browser.user(), browser.user()] == ["alice", "alice"]
        assert Browser(is_async, upn("bob@corp.example")).user() == ""


def test_a_thumbprint_needs_no_trust_store() -> None:
    create(ALICES.thumbprint)
    with site(setting={"user": CertificateUser(by=Thumbprint()), "trust_store": None}):
        assert check_settings() == []
        assert Browser(False, ALICES).user() == ALICES.thumbprint
        assert Browser(False, upn(ALICE)).user() == ""


class Early:
    """Reads the user before `CertificateUserMiddleware`."""

    sync_capable = False
    async_capable = True

    def __init__(self, get_response: Any) -> None:
        from asgiref.sync import markcoroutinefunction

        self.get_response = get_response
        markcoroutinefunction(self)

    async def __call__(self, request: Any) -> Any:
        await request.auser()
        return await self.get_response(request)


def test_a_user_that_was_read_before_is_replaced() -> None:
    create()
    create("bob@corp.example")
    middleware = [*MIDDLEWARE]
    middleware.insert(middleware.index(USER), f"{__name__}.Early")
    with site(MIDDLEWARE=middleware):
        browser = Browser(True, ALICES)
        assert browser.get("/later").json() == {"user": ALICE, "same": True}
        browser.client.use(upn("bob@corp.example"))
        assert browser.get("/later").json() == {"user": "bob@corp.example", "same": True}
        browser.client.use(None)
        assert browser.get("/later").json() == {"user": "", "same": True}


@both
def test_the_admin_opens_for_the_staff_member_of_the_certificate(is_async: bool) -> None:
    create(is_staff=True, is_superuser=True)
    with site():
        browser = Browser(is_async, ALICES)
        page = browser.get("/admin/")
        assert page.status_code == 200
        assert ALICE in page.content.decode()
        assert browser.get("/admin/login/").headers["Location"] == "/admin/"


NO_ACCESS: list[tuple[Any, dict[str, Any] | None, str]] = [
    (None, None, "your browser presented none"),
    (upn(), None, "does not identify a user"),
    (ALICES, None, f"Your certificate is for {ALICE}. There is no active user"),
    (ALICES, {"is_active": False, "is_staff": True}, "There is no active user"),
    (ALICES, {"is_staff": False}, f"You are logged in as {ALICE}. This user has no access"),
]


@both
@pytest.mark.parametrize(("card", "user", "text"), NO_ACCESS)
def test_the_admin_says_why_there_is_no_access(is_async: bool, card: Any, user: Any, text: str) -> None:
    if user is not None:
        create(**user)
    with site():
        page = Browser(is_async, card).get("/admin/", follow=True)
        assert page.status_code == 403
        content = " ".join(page.content.decode().split())
        assert text in content
        assert 'type="password"' not in content


def test_the_page_after_a_logout_says_what_a_logout_means() -> None:
    create(is_staff=True)
    with site():
        browser = Browser(False, ALICES)
        key = browser.get("/whoami").json()["key"]
        page = browser.post(reverse("admin:logout"))
        assert page.status_code == 200
        assert "still presents your certificate" in page.content.decode()
        seen = browser.get("/whoami").json()
        assert seen["user"] == ALICE
        assert seen["key"] != key


def test_a_name_in_the_admin_is_escaped() -> None:
    with site():
        page = Browser(False, upn("<b>alice</b>@corp.example")).get("/admin/", follow=True)
    assert "&lt;b&gt;alice&lt;/b&gt;@corp.example" in page.content.decode()
    assert "<b>alice" not in page.content.decode()


def without(*paths: str) -> list[str]:
    return [each for each in MIDDLEWARE if each not in paths]


SESSIONS, AUTHENTICATION = MIDDLEWARE[1], MIDDLEWARE[3]
CACHE = "django.middleware.cache.FetchFromCacheMiddleware"
UPN = UserPrincipalName()
WRONG: list[tuple[dict[str, Any], str, str]] = [
    ({"MTLS_MIDDLEWARE": None}, "E001", "is not set"),
    ({"MTLS_MIDDLEWARE": {}}, "E001", "a dict without source"),
    ({"setting": {"sauce": 1}}, "E001", "unknown keys ['sauce']"),
    ({"setting": {"root_path": "/api"}}, "E001", "omit it"),
    ({"setting": {"source": "nginx"}}, "E001", "is not a source"),
    ({"setting": {"exempt": ["static"]}}, "E001", "exempt"),
    ({"MIDDLEWARE": without(CERTIFICATE)}, "W002", "not in MIDDLEWARE"),
    ({"MIDDLEWARE": [CACHE, *MIDDLEWARE]}, "E003", "get cached pages"),
    ({"MIDDLEWARE": [*without(USER)[:1], USER, *without(USER)[1:]]}, "E004", "SessionMiddleware is after"),
    ({"MIDDLEWARE": [*without(CERTIFICATE), CERTIFICATE]}, "E004", "ClientCertificateMiddleware is after"),
    ({"MIDDLEWARE": without(SESSIONS)}, "E004", "needs SessionMiddleware"),
    ({"MIDDLEWARE": without(AUTHENTICATION)}, "E004", "needs AuthenticationMiddleware"),
    ({"setting": {"user": None}}, "E005", "has the user None"),
    ({"setting": {"user": UPN}}, "E005", "has the user UserPrincipalName"),
    ({"setting": {"trust_store": None}}, "E006", 'without "trust_store"'),
    ({"AUTHENTICATION_BACKENDS": ["django.contrib.auth.backends.ModelBackend"]}, "E007", "log no user in"),
]


def test_the_page_lists_every_finding() -> None:
    source = Path(str(checks.__file__)).read_text("utf-8")
    listed = re.findall(r"^\| `(mtls_middleware\.\w+)`", PAGE, re.MULTILINE)
    assert set(re.findall(r'"(mtls_middleware\.[EW]\d+)"', source)) == set(listed)


def test_correct_settings_have_no_findings() -> None:
    with site():
        assert check_settings() == []
        call_command("check")
    with site(MIDDLEWARE=without(USER), MTLS_MIDDLEWARE={"source": ServerTLS(), "required": False}):
        assert check_settings() == []


@pytest.mark.parametrize(("settings", "code", "text"), WRONG, ids=lambda each: str(each)[:50])
def test_manage_check_finds_wrong_settings(settings: dict[str, Any], code: str, text: str) -> None:
    with site(**settings):
        found = check_settings()
        assert [each.id for each in found] == [f"mtls_middleware.{code}"] * len(found)
        assert any(text in each.msg for each in found), found
        assert all(each.hint for each in found)
        if code.startswith("E"):
            with pytest.raises(SystemCheckError, match=code):
                call_command("check")


def test_manage_check_finds_a_field_that_does_not_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ByEmail, "name_field", "upn")
    with site(AUTHENTICATION_BACKENDS=backend(ByEmail)):
        (found,) = check_settings()
    assert found.id == "mtls_middleware.E008"


@both
def test_without_the_layers_the_response_is_500(is_async: bool) -> None:
    create()
    with site(MIDDLEWARE=without(CERTIFICATE)):
        browser = Browser(is_async, ALICES, raise_request_exception=False)
        assert browser.get("/whoami").status_code == 500
        assert browser.get("/whoami").content.find(b"Traceback") == -1


def test_without_a_session_the_request_fails() -> None:
    with site(MIDDLEWARE=[CERTIFICATE, USER]), pytest.raises(ConfigurationError, match="needs a session"):
        Browser(False, ALICES).get("/whoami")


def test_the_middleware_needs_a_user_in_the_setting() -> None:
    with site(setting={"user": None}), pytest.raises(ConfigurationError, match="has the user None"):
        CertificateUserMiddleware(lambda request: None)


def test_the_test_client_needs_the_setting() -> None:
    with site(MTLS_MIDDLEWARE={}), pytest.raises(ConfigurationError, match="has no source"):
        CertificateClient(ALICES)


def test_the_backend_is_the_documented_one() -> None:
    assert f"{CertificateUserBackend.__module__}.{CertificateUserBackend.__name__}" == BACKEND
