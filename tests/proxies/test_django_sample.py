"""samples/django_site behind a real nginx: the admin for the staff's cards, and its own tests."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from mtls_middleware.testing import CertificateAuthority, IssuedCertificate
from tests.proxies import django_sample, forgery, matrix
from tests.proxies.client import Answer, over_http1
from tests.proxies.django_sample import ALICE, SERVERS, manage

pytestmark = pytest.mark.live
PARTNER = CertificateAuthority("CN=Partner CA")


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """The staff is one of two CAs that nginx accepts."""
    return django_sample.variables(tmp_path, PARTNER.pem)


@pytest.fixture(params=SERVERS)
def port(request: Any, environment: dict[str, str], server_files: Path, tmp_path: Path) -> Iterator[int]:
    with django_sample.running(request.param, environment, server_files, tmp_path) as port:
        yield port


def ask(port: int, card: IssuedCertificate | None, path: str, *lines: bytes) -> Answer:
    return over_http1(port, matrix.servers().client_context(card), path, list(lines))


def test_the_admin_is_for_the_cards_of_the_staff(port: int) -> None:
    alice = matrix.clients().issue("CN=alice", **ALICE)
    assert ask(port, None, "/").body == b'{"welcome": "guest"}'
    assert ask(port, alice, "/").body == b'{"welcome": "alice@corp.example"}'
    page = ask(port, alice, "/admin/")
    assert (page.status, b"Site administration" in page.body) == (200, True)
    forged = forgery.Request([*forgery.forged(), *forgery.escaped()[:1]]).lines
    assert ask(port, None, "/admin/").status == 403
    assert ask(port, None, "/admin/", *forged).status == 403
    assert ask(port, PARTNER.issue("CN=alice", **ALICE), "/admin/").status == 403
    assert ask(port, PARTNER.issue("CN=alice", **ALICE), "/").body == b'{"welcome": "guest"}'
    assert ask(port, alice, "/api/profile").body == b'{"user":"alice@corp.example","groups":[]}'


def test_the_forms_of_the_admin_accept_their_own_site_only(port: int) -> None:
    context = matrix.servers().client_context(matrix.clients().issue("CN=alice", **ALICE))
    site = f"https://localhost:{port}"
    with httpx2.Client(base_url=site, verify=context) as browser:
        assert browser.get("/admin/password_change/").status_code == 200
        assert {(each.name, each.secure) for each in browser.cookies.jar} == {("csrftoken", True), ("sessionid", True)}
        form = {"csrfmiddlewaretoken": browser.cookies["csrftoken"]}
        for origin, status in (("https://attacker.example", 403), (site, 200)):
            assert browser.post("/admin/logout/", data=form, headers={"Origin": origin}).status_code == status


def test_the_tests_of_the_sample_pass(environment: dict[str, str]) -> None:
    manage("check", environment)
    manage("test", environment)
