"""Forged header fields: what the application never reads. DESIGN 1.3."""

import pytest

from mtls_middleware.sources import Nginx, ServerTLS
from mtls_middleware.sources.vendors import KNOWN_HEADERS
from mtls_middleware.testing import IssuedCertificate
from tests.gateways import PROXY, STRANGER, Request, both_gateways, send
from tests.layers.formats import SOURCES
from tests.layers.world import SECRET, TRUSTED, certificates

KNOWN = sorted(KNOWN_HEADERS)


@both_gateways
@pytest.mark.parametrize("peer", [PROXY, STRANGER, None])
@pytest.mark.parametrize("spelling", ["Title-Case", "lower-case", "under_score", "UNDER_SCORE"])
@pytest.mark.case("001", "002", "003")
@pytest.mark.standard("I9")
def test_application_never_reads_a_certificate_header(gateway: str, peer: str | None, spelling: str) -> None:
    spell = {
        "Title-Case": str.title,
        "lower-case": str.lower,
        "under_score": lambda name: name.replace("-", "_"),
        "UNDER_SCORE": lambda name: name.replace("-", "_").upper(),
    }[spelling]
    source = ServerTLS()  # reads no header, so none can be malformed
    request = Request(peer=peer, headers=[("Accept", "*/*"), *((spell(name), "EVIL") for name in KNOWN)])
    seen = send(gateway, certificates(source), request).application
    assert seen.headers == {"accept": "*/*"}
    assert seen.certificate is None


@both_gateways
@pytest.mark.parametrize("name", SOURCES)
@pytest.mark.case("003")
def test_strangers_headers_of_all_formats_are_ignored(gateway: str, name: str, mtls_client: IssuedCertificate) -> None:
    evil = dict.fromkeys(KNOWN, mtls_client.as_nginx()["X-SSL-Client-Cert"])
    request = Request(peer=STRANGER, headers=list(evil.items()))
    seen = send(gateway, certificates(SOURCES[name]), request).application
    assert (seen.certificate, seen.headers) == (None, {})
    if SOURCES[name].can_verify:
        assert send(gateway, certificates(SOURCES[name], required=True), request).status == 403


@both_gateways
@pytest.mark.parametrize("peer", [PROXY, STRANGER])
def test_own_names_and_the_secret_are_stripped_too(gateway: str, peer: str) -> None:
    source = Nginx(
        trusted_proxies=TRUSTED, shared_secret=SECRET, certificate_header="X-Own-Cert", verify_header="X-Own-Verify"
    )
    given = [("X-Own-Cert", ""), ("X-Own-Verify", "NONE"), SECRET, ("X-Other", "1")]
    assert send(gateway, certificates(source), Request(peer=peer, headers=given)).application.headers == {
        "x-other": "1"
    }
    twins = [(name.replace("-", "_"), value) for name, value in given]
    seen = send(gateway, certificates(source), Request(peer=peer, headers=twins)).application
    assert {name.replace("_", "-") for name in seen.headers} == {"x-other"}


def test_uwsgi_twin_with_a_blank_is_stripped() -> None:
    """uWSGI keeps the blank of `X-SSL-Client-Cert : value` in the key."""
    forged = {"HTTP_X_SSL_CLIENT_CERT ": "EVIL", "HTTP_CLIENT_CERT ": "EVIL"}
    seen = send("wsgi", certificates(), Request(extra=forged)).application
    assert not seen.headers


def test_asgi_names_are_compared_without_case() -> None:
    raw = {"headers": [[b"X-SSL-Client-Cert", b"EVIL"], [b"x_SSL-client_CERT", b"EVIL"], [b"Accept", b"*/*"]]}
    seen = send("asgi", certificates(ServerTLS()), Request(extra=raw)).application
    assert seen.headers == {"Accept": "*/*"}
