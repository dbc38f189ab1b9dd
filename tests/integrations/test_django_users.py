"""Users of Django by certificate: the middleware, its decisions, and the sessions."""

import asyncio
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from django.core.asgi import get_asgi_application
from django.core.wsgi import get_wsgi_application

from mtls_middleware import asgi, wsgi
from mtls_middleware.cli.wiring import layers_of
from mtls_middleware.integrations import CertificateUser
from mtls_middleware.policy import ANYONE, DNSName, IssuerAndSerialNumber, Thumbprint, UserPrincipalName
from mtls_middleware.sources import Nginx
from mtls_middleware.testing import IssuedCertificate
from mtls_middleware.testing.django import AsyncClient, Client
from mtls_middleware.validation import RevocationLists, TrustStore
from tests.integrations import django_users
from tests.integrations.django_users import Browser, site
from tests.integrations.test_certificate_user import ALICE, NAMESAKE, PARTNER, STAFF, upn, with_other_name
from tests.validation.authority import crl

from django.contrib.auth import get_user_model  # isort: skip

BOB = "bob@corp.example"
ALICES, BOBS = upn(ALICE), upn(BOB)
PASSWORDS = "django.contrib.auth.backends.ModelBackend"


@pytest.fixture(autouse=True)
def _database() -> Iterator[None]:
    with django_users.database():
        yield


@pytest.fixture(params=django_users.WAYS.values(), ids=django_users.WAYS)
def way(request: pytest.FixtureRequest) -> Iterator[bool]:
    """Whether the client is asynchronous, in a project with the settings of this way through the middleware."""
    is_async, inside = request.param
    with site(inside=inside):
        yield is_async


def create(name: str = ALICE, **options: Any) -> Any:
    return get_user_model().objects.create(username=name, **options)


def test_the_user_of_the_certificate_is_the_user(way: bool) -> None:
    create()
    browser = Browser(way, ALICES)
    for _ in range(2):
        assert browser.user() == ALICE
    assert browser.get("/later").json() == {"user": ALICE, "same": True}
    assert Browser(way).user() == ""


def test_the_view_sees_the_certificate_and_no_header_of_it(way: bool) -> None:
    browser = Browser(way, ALICES)
    for _ in range(2):  # the second decision is cached
        seen = browser.get("/whoami").json()
        assert seen["certificate"] == ALICES.thumbprint
        assert (seen["headers"], seen["meta"], seen["raw"]) == ([], [], [])


def test_a_forged_header_is_removed(way: bool) -> None:
    create()
    fields = ALICES.for_source(Nginx(trusted_proxies=["10.0.0.7"], shared_secret=("MtlsProxySecret", "guessed" * 3)))
    seen = Browser(way).get("/whoami", headers=dict(fields)).json()
    assert (seen["user"], seen["certificate"], seen["headers"], seen["meta"]) == ("", None, [], [])


CARDS: dict[str, Any] = {
    "unknown user": upn("carol@corp.example"),
    "another authority": upn(ALICE, ca=PARTNER),
    "another authority with the same name": upn(ALICE, ca=NAMESAKE),
    "two users": upn(ALICE, BOB),
    "an unreadable name": with_other_name(b"\x0c\x02\xff\xfe"),
    "another case of the user": upn("Alice@corp.example"),
    "a full-width look-alike": upn("\uff41lice@corp.example"),
    "a Cyrillic look-alike": upn("\u0430lice@corp.example"),
    "no certificate": None,
}


@pytest.mark.parametrize("card", CARDS.values(), ids=CARDS)
def test_any_other_certificate_is_anonymous(way: bool, card: Any) -> None:
    create()
    create(BOB)
    assert Browser(way, card).user() == ""


@pytest.mark.parametrize("card", CARDS.values(), ids=CARDS)
def test_a_session_ends_with_a_request_without_its_user(way: bool, card: Any) -> None:
    create()
    create(BOB)
    browser = Browser(way, ALICES)
    assert browser.get("/fill").json()["user"] == ALICE
    browser.client.use(card)
    seen = browser.get("/whoami").json()
    assert (seen["user"], seen["cart"]) == ("", None)
    assert browser.get("/later").json()["user"] == ""
    browser.client.use(ALICES)
    assert browser.get("/whoami").json()["cart"] is None


def test_another_user_gets_a_session_of_their_own(way: bool) -> None:
    create()
    create(BOB)
    browser = Browser(way, ALICES)
    first = browser.get("/fill").json()
    browser.client.use(BOBS)
    assert browser.get("/later").json() == {"user": BOB, "same": True}
    second = browser.get("/whoami").json()
    assert (second["user"], second["cart"]) == (BOB, None)
    assert second["key"] != first["key"]


def test_a_renewed_certificate_continues_the_session(way: bool) -> None:
    create()
    browser = Browser(way, ALICES)
    browser.get("/fill")
    browser.client.use(upn(ALICE))
    seen = browser.get("/whoami").json()
    assert (seen["user"], seen["cart"]) == (ALICE, "full")


def test_a_form_needs_its_token_also_with_a_certificate(way: bool) -> None:
    """A request that begins a session, or has a renewed certificate, may send the form of an older page."""
    create()
    browser = Browser(way, ALICES, enforce_csrf_checks=True)
    for card in (ALICES, ALICES, upn(ALICE)):
        browser.client.use(card)
        browser.client.cookies["csrftoken"] = "a" * 32  # Django replaces it when a session begins
        assert browser.post("/fill", {"csrfmiddlewaretoken": "a" * 32}).json()["user"] == ALICE
        assert browser.post("/fill").status_code == 403


def test_a_stolen_session_cookie_gives_the_thief_no_access(way: bool) -> None:
    create()
    create(BOB)
    alice = Browser(way, ALICES)
    alice.get("/fill")
    for card, name in ((BOBS, BOB), (None, "")):
        thief = Browser(way, card)
        thief.client.cookies = alice.client.cookies.copy()
        seen = thief.get("/whoami").json()
        assert (seen["user"], seen["cart"]) == (name, None)
        assert alice.user() == ALICE


def test_a_planted_session_is_not_continued(way: bool) -> None:
    create()
    create(BOB)
    attacker = Browser(way)
    planted = attacker.get("/fill").json()["key"] or attacker.get("/whoami").json()["key"]
    alice = Browser(way, ALICES)
    alice.client.cookies = attacker.client.cookies.copy()
    alice.get("/whoami")
    assert alice.get("/whoami").json()["key"] not in (planted, None)
    assert attacker.user() == ""


def test_an_account_with_another_name_no_longer_has_the_session(way: bool) -> None:
    user = create()
    browser = Browser(way, ALICES)
    assert browser.user() == ALICE
    user.username = "alice.left@corp.example"
    user.save()
    assert browser.user() == ""
    create()
    assert browser.user() == ALICE
    assert get_user_model().objects.count() == 2


def test_an_inactive_user_is_anonymous(way: bool) -> None:
    user = create()
    browser = Browser(way, ALICES)
    assert browser.user() == ALICE
    user.is_active = False
    user.save()
    assert browser.user() == ""
    assert Browser(way, ALICES).user() == ""


def test_an_expired_certificate_ends_with_403(way: bool) -> None:
    create()
    browser = Browser(way, ALICES)
    assert browser.user() == ALICE
    browser.client.use(upn(ALICE, not_after=datetime(2026, 1, 1, tzinfo=UTC)))
    response = browser.get("/whoami")
    assert (response.status_code, response.json()["error"]) == (403, "client_certificate_refused")
    assert response.headers["Cache-Control"] == "no-store"


def test_a_session_of_a_password_continues_without_a_known_certificate(way: bool) -> None:
    create()
    get_user_model().objects.create_user("carol", password="secret of carol")
    with site(AUTHENTICATION_BACKENDS=[PASSWORDS, django_users.BACKEND]):
        browser = Browser(way)
        browser.log_in("carol", "secret of carol")
        assert browser.user() == "carol"
        browser.client.use(upn("dave@corp.example"))
        assert browser.user() == "carol"
        browser.client.use(ALICES)
        assert browser.user() == ALICE
        browser.client.use(None)
        assert browser.user() == ""


def test_a_session_of_a_password_goes_over_to_the_same_user(way: bool) -> None:
    get_user_model().objects.create_user(ALICE, password="secret of alice")
    with site(AUTHENTICATION_BACKENDS=[PASSWORDS, django_users.BACKEND]):
        browser = Browser(way)
        browser.log_in(ALICE, "secret of alice")
        browser.get("/fill")
        browser.client.use(ALICES)
        assert browser.get("/whoami").json()["cart"] == "full"
        browser.client.use(None)
        assert browser.user() == ""


def test_a_password_is_not_accepted_by_the_backend() -> None:
    get_user_model().objects.create_user("carol", password="secret of carol")
    with site():
        assert not Browser(False).client.login(username="carol", password="secret of carol")


RULES: list[tuple[dict[str, Any], Any, str, int]] = [
    ({"required": True}, None, "/whoami", 403),
    ({"required": True}, ALICES, "/whoami", 200),
    ({"required": True, "exempt": ["/open/*"]}, None, "/open/whoami", 200),
    ({"required": None, "allow": UserPrincipalName(ALICE)}, BOBS, "/whoami", 403),
    ({"required": None, "allow": UserPrincipalName(ALICE)}, ALICES, "/whoami", 200),
    ({"required": None, "allow": {"/": DNSName("a.example"), "/open": ANYONE}}, None, "/open/whoami", 200),
    ({"required": None, "allow": {"/": DNSName("a.example"), "/open": ANYONE}}, ALICES, "/whoami", 403),
]


@pytest.mark.parametrize(("setting", "card", "path", "status"), RULES)
def test_rules_and_exempt_paths_are_those_of_the_setting(
    way: bool, setting: dict[str, Any], card: Any, path: str, status: int
) -> None:
    with site(setting=setting):
        assert Browser(way, card).get(path).status_code == status


def test_paths_are_those_that_django_routes_on(way: bool) -> None:
    with site(setting={"required": True, "exempt": ["/open/*"]}, FORCE_SCRIPT_NAME="/open"):
        assert Browser(way).get("/whoami").status_code == 403
        assert Browser(way, ALICES).get("/whoami").status_code == 200


def test_responses_vary_by_the_header_of_the_certificate(way: bool) -> None:
    assert SOURCE_FIELD in Browser(way, ALICES).get("/whoami").headers["Vary"].lower()


SOURCE_FIELD = "x-ssl-client-cert"


def test_a_revoked_certificate_ends_with_403_and_a_renewed_one_works(way: bool, tmp_path: Any) -> None:
    create()
    lost, renewed = upn(ALICE), upn(ALICE)
    path = tmp_path / "staff.crl"
    path.write_bytes(crl(STAFF, [lost], now=time.time()))
    store = TrustStore([STAFF.certificate], revocation=RevocationLists([path]))
    with site(setting={"trust_store": store}):
        browser = Browser(way, lost)
        response = browser.get("/whoami")
        assert (response.status_code, response.json()["error"]) == (403, "client_certificate_refused")
        browser.client.use(renewed)
        assert browser.user() == ALICE


def test_a_name_that_was_issued_to_another_person_needs_another_account(way: bool) -> None:
    """The operator renames the account. The old session, and the old certificate, then belong to the new account."""
    old = create(is_superuser=True)
    browser = Browser(way, ALICES)
    assert browser.user() == ALICE
    old.username = "alice.old@corp.example"
    old.save()
    new = create()
    for card in (upn(ALICE), ALICES):
        browser.client.use(card)
        assert browser.user() == ALICE
        assert get_user_model().objects.get(username=ALICE).pk == new.pk


def test_another_certificate_for_the_same_key_has_another_thumbprint(way: bool) -> None:
    create(ALICES.thumbprint)
    with site(setting={"user": CertificateUser(by=Thumbprint())}):
        assert Browser(way, ALICES).user() == ALICES.thumbprint
        assert Browser(way, upn(ALICE, key=ALICES.key)).user() == ""


def test_two_authorities_with_one_name_need_the_key_of_the_authority(way: bool) -> None:
    """The serial number and the name of the issuer are those of another certificate."""
    same = x509.CertificateBuilder()
    for name, value in (
        ("subject_name", ALICES.x509.subject),
        ("issuer_name", ALICES.x509.issuer),
        ("serial_number", ALICES.x509.serial_number),
        ("public_key", ALICES.x509.public_key()),
        ("not_valid_before", ALICES.x509.not_valid_before_utc),
        ("not_valid_after", ALICES.x509.not_valid_after_utc),
    ):
        same = getattr(same, name)(value)
    for extension in ALICES.x509.extensions:
        if extension.oid != x509.AuthorityKeyIdentifier.oid:
            same = same.add_extension(extension.value, extension.critical)
    of_namesake = x509.AuthorityKeyIdentifier.from_issuer_public_key(NAMESAKE.key.public_key())
    forged = IssuedCertificate(same.add_extension(of_namesake, False).sign(NAMESAKE.key, SHA256()), ALICES.key)
    name = f"{ALICES.x509.serial_number} CN=staff ca,O=acme"
    create(name)
    with site(setting={"user": CertificateUser(by=IssuerAndSerialNumber(), issued_by=STAFF.certificate)}):
        assert Browser(way, ALICES).user() == name
        assert Browser(way, forged).user() == ""
    with site(setting={"user": CertificateUser(by=IssuerAndSerialNumber())}):
        assert Browser(way, forged).user() == name  # as docs/users.md warns


def test_layers_may_also_be_around_the_project(way: bool) -> None:
    """A layer of `asgi.py` or `wsgi.py` in front of the middleware: both decide."""
    create()
    with site(setting={"required": True}):
        fields = ALICES.for_source(django_users.SOURCE)
        project: Any = get_asgi_application() if way else get_wsgi_application()
        layers: Any = (asgi if way else wsgi).protect(project, source=django_users.SOURCE, allow=UserPrincipalName(BOB))
        client: Any = (AsyncClient if way else Client)(layers, fields)
        response = asyncio.run(client.get("/whoami")) if way else client.get("/whoami")
        assert response.status_code == 403
        layers = (asgi if way else wsgi).protect(project, source=django_users.SOURCE, allow=UserPrincipalName(ALICE))
        client = (AsyncClient if way else Client)(layers, fields)
        response = asyncio.run(client.get("/whoami")) if way else client.get("/whoami")
        assert (response.status_code, response.json().get("user")) == (200, ALICE)


def test_doctor_finds_the_layers_of_the_middleware(way: bool) -> None:
    application: Any = get_asgi_application() if way else get_wsgi_application()
    (found,) = layers_of(application)
    assert (found.layer.name, found.gateway) == ("certificate", "ASGI" if way else "WSGI")
