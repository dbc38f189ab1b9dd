"""Who is believed: peers, a shared secret, the proxy's own certificate. Each kind that is given must hold."""

import socket
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote

import pytest

from mtls_middleware import ConfigurationError
from mtls_middleware.policy import Subject, Thumbprint
from mtls_middleware.request import Peer
from mtls_middleware.sources import HeaderSource, Nginx
from mtls_middleware.testing import CertificateAuthority, IssuedCertificate
from tests.gateways import Outcome
from tests.ids import shown
from tests.sources.requests import PROXY, STRANGER, TRUST, Headers, through_asgi, through_wsgi, view

Through = Callable[..., Outcome]

SECRET = ("X-Proxy-Secret", "correct horse battery staple")


@pytest.fixture(scope="module")
def nginx_fields(mtls_client: IssuedCertificate) -> Headers:
    """What nginx writes."""
    return list(mtls_client.as_nginx().items())


def believed(source: HeaderSource, headers: Headers, **request: Any) -> bool:
    return source.find(view(headers, **request)) is not None


# ---- peers

NETWORKS = ["10.0.0.0/8", "192.0.2.7", "2001:db8::/32", "::ffff:198.51.100.0/120", "fe80::1"]


@pytest.mark.case("014", "015", "017")
@pytest.mark.parametrize(
    ("address", "trusted"),
    [
        ("10.0.0.1", True),
        ("10.255.255.255", True),
        ("11.0.0.0", False),
        ("9.255.255.255", False),
        ("192.0.2.7", True),
        ("192.0.2.8", False),
        ("::ffff:10.0.0.5", True),  # an IPv4 client on a [::] listener
        ("::FFFF:0a00:0005", True),
        ("::ffff:203.0.113.9", False),
        ("198.51.100.7", True),  # the network was given as mapped
        ("::ffff:198.51.100.7", True),
        ("198.51.101.7", False),
        ("2001:db8::1", True),
        ("2001:DB8:0:0::1", True),
        ("2001:db9::1", False),
        ("::10.0.0.1", False),  # compatible, not mapped
        ("64:ff9b::10.0.0.1", False),
        ("fe80::1", True),
        ("fe80::1%eth0", False),  # a zone is no network of ours
        ("2001:db8::1%1", False),
        ("010.0.0.1", False),
        ("10.0.0.1:443", False),
        (" 10.0.0.1", False),
        ("10.0.0.1\n", False),
        ("10.1", False),
        ("0x0a000001", False),
        ("167772161", False),
        ("\u0661\u0660.0.0.1", False),
        ("unix", False),
        ("", False),
        ("localhost", False),
        ("<local>", False),
        ("testclient", False),
        (None, False),
    ],
)
def test_only_peers_of_the_given_networks_are_believed(
    address: str | None, trusted: bool, nginx_fields: Headers
) -> None:
    assert believed(Nginx(trusted_proxies=NETWORKS), nginx_fields, peer=address) is trusted
    assert believed(Nginx(trusted_proxies=[*NETWORKS, "unix"]), nginx_fields, peer=address) is trusted


@pytest.mark.case("017")
@pytest.mark.parametrize("client", [None, [], ["", 0], ("", "0"), ("localhost", 80), ("<local>", 1)], ids=shown)
def test_an_absent_or_empty_asgi_client_is_not_trusted(client: Any, nginx_fields: Headers) -> None:
    source = Nginx(trusted_proxies=["10.0.0.0/8", "unix"])
    for server in (None, ("127.0.0.1", 80), ("", None), (None, None), ("/run/app.sock", 80)):
        outcome = through_asgi(source, nginx_fields, scope={"client": client, "server": server}, required=True)
        assert (outcome.status, outcome.error) == (403, "client_certificate_required")


@pytest.mark.parametrize("client", [["10.0.0.1", 4711], ("10.0.0.1", "4711"), ("10.0.0.1", 4711)], ids=shown)
def test_every_servers_shape_of_asgi_client_is_read(client: Any, nginx_fields: Headers) -> None:
    assert through_asgi(Nginx(**TRUST), nginx_fields, scope={"client": client}).certificate is not None


def test_unix_is_believed_only_where_it_is_given(nginx_fields: Headers) -> None:
    unix = Peer(unix=True)
    assert believed(Nginx(trusted_proxies=["unix"]), nginx_fields, peer=unix)
    assert not believed(Nginx(trusted_proxies=["10.0.0.0/8"]), nginx_fields, peer=unix)
    assert not believed(Nginx(trusted_proxies=["unix"]), nginx_fields, peer=PROXY)


class Listening:
    """A server's socket, as far as its family."""

    def __init__(self, family: socket.AddressFamily) -> None:
        self.family = family


WAITRESS = {"SERVER_SOFTWARE": "waitress", "waitress.client_disconnected": lambda: False}
UNIX, INET = Listening(socket.AF_UNIX), Listening(socket.AF_INET)


@pytest.mark.case("017")
@pytest.mark.parametrize(
    ("environ", "unix"),
    [
        ({"gunicorn.socket": UNIX, "REMOTE_ADDR": ""}, True),
        ({"gunicorn.socket": INET, "REMOTE_ADDR": ""}, False),
        ({"werkzeug.socket": UNIX, "REMOTE_ADDR": "<local>"}, True),
        ({"werkzeug.socket": INET, "REMOTE_ADDR": "<local>"}, False),
        ({**WAITRESS, "SERVER_PORT": "/run/app.sock", "REMOTE_ADDR": "localhost"}, True),
        ({**WAITRESS, "SERVER_PORT": "8080", "REMOTE_ADDR": "localhost"}, False),
        ({"SERVER_SOFTWARE": "gunicorn/27.0.1", "SERVER_PORT": "/run/app.sock", "REMOTE_ADDR": "localhost"}, False),
        ({"REMOTE_ADDR": ""}, False),
        ({"REMOTE_ADDR": None}, False),
    ],
)
def test_a_wsgi_server_says_itself_that_its_peer_is_a_unix_socket(
    environ: Mapping[str, Any], unix: bool, nginx_fields: Headers
) -> None:
    found = through_wsgi(Nginx(trusted_proxies=["unix", "10.0.0.0/8"]), nginx_fields, environ=environ)
    assert (found.certificate is not None) is unix


def test_an_asgi_server_says_itself_that_its_peer_is_a_unix_socket(nginx_fields: Headers) -> None:
    scope = {"client": None, "server": ("/run/app.sock", None)}
    assert through_asgi(Nginx(trusted_proxies=["unix"]), nginx_fields, scope=scope).certificate is not None
    assert through_asgi(Nginx(**TRUST), nginx_fields, scope=scope).certificate is None


def test_an_address_from_a_header_is_not_the_peer(nginx_fields: Headers) -> None:
    """uvicorn rewrites `client` by default, with the port 0 or the header's own (DESIGN 4.7)."""
    source = Nginx(**TRUST)
    assert through_asgi(source, nginx_fields, scope={"client": (PROXY, 0)}).certificate is None
    for written in (f"{PROXY}:4711", f"{STRANGER}, {PROXY}:4711"):
        assert through_asgi(source, [*nginx_fields, ("X-Forwarded-For", written)]).certificate is None
    assert through_asgi(source, [*nginx_fields, ("X-Forwarded-For", STRANGER)]).certificate is not None
    assert not believed(source, nginx_fields, peer=Peer(address=PROXY, doubt="a header wrote it"))


def test_proxy_fix_keeps_the_peer_that_decides(nginx_fields: Headers) -> None:
    for original, rewritten, expected in ((PROXY, STRANGER, True), (STRANGER, PROXY, False)):
        environ = {"REMOTE_ADDR": rewritten, "werkzeug.proxy_fix.orig": {"REMOTE_ADDR": original}}
        assert (through_wsgi(Nginx(**TRUST), nginx_fields, environ=environ).certificate is not None) is expected


@pytest.mark.standard("I9")
def test_what_a_stranger_sends_is_not_even_parsed(through: Through) -> None:
    """A malformed field from a trusted peer is 400; from a stranger it is no field at all."""
    headers = [("X-SSL-Client-Cert", "garbage"), ("X-SSL-Client-Cert", "more"), ("X-SSL-Client-Verify", "?")]
    outcome = through(Nginx(**TRUST), headers, peer=STRANGER)
    assert (outcome.status, outcome.certificate, outcome.names) == (200, None, frozenset())
    assert through(Nginx(**TRUST), headers).status == 400


def test_the_log_says_why_a_field_was_ignored_without_saying_what_it_held(
    nginx_fields: Headers, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG", "mtls_middleware")
    assert not believed(Nginx(**TRUST), nginx_fields, peer=STRANGER)
    (record,) = caplog.records
    assert (record.name, record.levelname) == ("mtls_middleware.sources", "INFO")
    assert "ignored: the peer's address is not in trusted_proxies" in record.getMessage()
    assert not believed(Nginx(**TRUST), [], peer=STRANGER)
    assert len(caplog.records) == 1


def test_a_thousand_networks_are_asked_as_one(nginx_fields: Headers) -> None:
    """A look-up per prefix length, not per network."""
    many = Nginx(trusted_proxies=[f"10.{high}.{low}.0/24" for high in range(4) for low in range(250)])
    assert len(many._trust._networks) == 1
    assert believed(many, nginx_fields, peer="10.3.249.255")
    assert not believed(many, nginx_fields, peer="10.3.250.0")


# ---- shared secret


@pytest.mark.standard("I22")
def test_the_shared_secret_must_be_there_once_and_whole(nginx_fields: Headers, through: Through) -> None:
    source = Nginx(shared_secret=SECRET)
    name, value = SECRET
    outcome = through(source, [*nginx_fields, SECRET], peer=STRANGER)
    assert outcome.certificate is not None
    assert outcome.names == frozenset()  # removed, so that the application cannot show it to anybody
    wrong = [value[:-1], value + "x", value.upper(), value + "\n", "", "\u00e9" * len(value)]
    for headers in (
        [],
        [(name, wrong[0])],
        *([(name, each)] for each in wrong),
        [SECRET, SECRET],
        [SECRET, (name, "")],
    ):
        ignored = through(source, [*nginx_fields, *headers])
        assert (ignored.status, ignored.certificate, ignored.names) == (200, None, frozenset())


def test_every_kind_of_trust_given_must_hold(nginx_fields: Headers) -> None:
    source = Nginx(shared_secret=SECRET, **TRUST)
    assert believed(source, [*nginx_fields, SECRET])
    assert not believed(source, nginx_fields)
    assert not believed(source, [*nginx_fields, SECRET], peer=STRANGER)


@pytest.mark.case("005")
@pytest.mark.parametrize("software", ["Cheroot/11.1.2 Server", "Granian", "Granian/2.8.7"])
def test_servers_that_let_an_underscore_win_need_a_proxy_that_deletes_it(
    software: str, nginx_fields: Headers, mtls_other_client: IssuedCertificate
) -> None:
    """`X_SSL_Client_Cert` silently takes the place of the proxy's field there, so nothing at all is believed."""
    environ = {"SERVER_SOFTWARE": software}
    evil = [(name.replace("-", "_"), value) for name, value in mtls_other_client.as_nginx().items()]
    for headers in (evil, nginx_fields, []):
        refused = through_wsgi(Nginx(**TRUST), headers, environ=environ)
        assert (refused.status, refused.reached) == (500, False)
    assert through_wsgi(Nginx(shared_secret=SECRET), [*nginx_fields, SECRET], environ=environ).status == 500
    stated = Nginx(shared_secret=SECRET, proxy_deletes_underscores=True)
    assert through_wsgi(stated, [*nginx_fields, SECRET], environ=environ).certificate is not None
    assert through_wsgi(stated, evil, environ=environ).certificate is None


@pytest.mark.case("005")
@pytest.mark.parametrize("joint", [",", ", "])
def test_servers_that_join_an_underscore_twin_are_answered_400(
    joint: str, nginx_fields: Headers, mtls_other_client: IssuedCertificate
) -> None:
    """wsgiref, uWSGI, pyvoy; and nginx always writes the word, so that a twin alone is two words."""
    twins = [(name.replace("-", "_"), value) for name, value in mtls_other_client.as_nginx().items()]
    for headers in (
        [*nginx_fields, *twins],
        [*nginx_fields, twins[0]],
        [*nginx_fields, twins[1]],
        [("X-SSL-Client-Verify", "NONE"), *twins],
    ):
        refused = through_wsgi(Nginx(**TRUST), headers, joint=joint)
        assert (refused.status, refused.error, refused.reached) == (400, "invalid_client_certificate", False)


@pytest.mark.case("007")
def test_an_underscore_twin_is_ignored_where_the_gateway_can_tell(
    nginx_fields: Headers, mtls_client: IssuedCertificate, mtls_other_client: IssuedCertificate
) -> None:
    twins = [(name.replace("-", "_"), value) for name, value in mtls_other_client.as_nginx().items()]
    outcome = through_asgi(Nginx(**TRUST), [*twins, *nginx_fields, *twins])
    assert (outcome.thumbprint, outcome.names) == (mtls_client.thumbprint, frozenset())
    assert through_asgi(Nginx(**TRUST), twins, required=True).status == 403


# ---- the proxy's own certificate


def over_mutual_tls(
    through: Through, proxy: IssuedCertificate | None, source: HeaderSource, headers: Headers
) -> Outcome:
    """The proxy presents `proxy` to this server, and writes `headers` about its client."""
    if through is through_asgi:
        extension = {"client_cert_chain": []} if proxy is None else proxy.as_tls_extension()
        return through(source, headers, scope={"extensions": {"tls": extension}})
    return through(source, headers, environ={} if proxy is None else proxy.as_environ())


@pytest.mark.standard("I22")
def test_the_proxys_certificate_is_what_the_rule_says(
    nginx_fields: Headers,
    mtls_ca: CertificateAuthority,
    mtls_client: IssuedCertificate,
    mtls_other_client: IssuedCertificate,
    through: Through,
) -> None:
    proxy = mtls_ca.issue("CN=proxy,O=Tests")
    for rule in (
        Subject("CN=proxy,O=Tests"),
        Thumbprint(proxy.thumbprint),
        lambda each: each.subject == "CN=proxy,O=Tests",
    ):
        source = Nginx(proxy_certificate=rule)
        found = over_mutual_tls(through, proxy, source, nginx_fields)
        assert found.thumbprint == mtls_client.thumbprint  # the client's, never the proxy's
        for other in (mtls_other_client, None):
            ignored = over_mutual_tls(through, other, source, nginx_fields)
            assert (ignored.status, ignored.certificate, ignored.names) == (200, None, frozenset())
        assert over_mutual_tls(through, proxy, source, []).certificate is None


def test_an_unverified_or_unreadable_proxy_certificate_is_not_trusted(
    nginx_fields: Headers, mtls_ca: CertificateAuthority
) -> None:
    proxy = mtls_ca.issue("CN=proxy,O=Tests")
    source = Nginx(proxy_certificate=Subject("CN=proxy,O=Tests"))
    assert believed(source, nginx_fields, environ=proxy.as_environ())
    assert not believed(source, nginx_fields, environ=proxy.as_environ(verify="FAILED:x"))
    assert not believed(source, nginx_fields, extension=proxy.as_tls_extension(error="self-signed certificate"))
    assert not believed(source, nginx_fields, environ={"SSL_CLIENT_CERT": "garbage", "SSL_CLIENT_VERIFY": "SUCCESS"})


# ---- what cannot be configured


@pytest.mark.case("019", "020")
@pytest.mark.standard("I11")
@pytest.mark.parametrize(
    "proxies",
    [
        ["0.0.0.0/0"],
        ["::/0"],
        ["*"],
        ["::ffff:0:0/96"],
        ["0.0.0.0/1", "128.0.0.0/1"],
        ["::/1", "8000::/1"],
        ["::ffff:0:0/97", "128.0.0.0/1"],
        [*(f"{each << 4}.0.0.0/4" for each in range(16))],
        ["10.0.0.5/8"],
        ["2001:db8::1/32"],
        ["010.0.0.5"],
        ["10.0.0"],
        ["10.0.0.0/33"],
        ["10.0.0.0/-1"],
        ["proxy.internal"],
        ["localhost"],
        ["UNIX"],
        ["/run/app.sock"],
        ["fe80::1%eth0"],
        [""],
        [" 10.0.0.1"],
        [b"10.0.0.1"],
        [167772161],
        [None],
        "10.0.0.0/8",
        "unix",
        b"unix",
        None,
        5,
        iter(["10.0.0.0/8"]),
        [],
        (),
    ],
    ids=shown,
)
def test_trust_in_no_peer_or_every_peer_is_rejected_at_construction(proxies: Any) -> None:
    with pytest.raises(ConfigurationError, match="trust"):
        Nginx(trusted_proxies=proxies)


@pytest.mark.standard("I10", "I11")
def test_no_source_can_be_made_without_trust() -> None:
    with pytest.raises(ConfigurationError, match=r"trusted_proxies=\[.*\] or shared_secret="):
        Nginx()


@pytest.mark.parametrize(
    "proxies",
    [["10.0.0.0/8", "unix"], ("::1",), {"127.0.0.1"}, frozenset({"unix"}), ["0.0.0.0/1"], ["::ffff:10.0.0.1"]],
)
def test_trust_in_some_is_accepted(proxies: Any) -> None:
    assert Nginx(trusted_proxies=proxies)


@pytest.mark.parametrize(
    "secret",
    [
        ("X-Secret", ""),
        ("X-Secret", "short"),
        ("X-Secret", "fifteen letters"),
        ("X-Secret", " " * 16),
        ("X-Secret", "sixteen letters "),
        ("X-Secret", "sixteen\nletters."),
        ("X-Secret", "s\u00efxteen letters."),
        ("X-Secret", b"sixteen letters."),
        ("X-Secret", None),
        ("", "sixteen letters."),
        ("X Secret", "sixteen letters."),
        ("X_Secret", "sixteen letters."),
        ("X-S\u00ebcret", "sixteen letters."),
        ("X-Secret", "sixteen letters.", "more"),
        "X-Secret: sixteen letters.",
        ("sixteen letters.",),
        {"X-Secret": "sixteen letters."},
    ],
    ids=shown,
)
def test_secrets_that_can_be_guessed_or_never_arrive_are_refused(secret: Any) -> None:
    with pytest.raises(ConfigurationError, match="secret"):
        Nginx(shared_secret=secret)


def test_a_refused_secret_is_not_repeated() -> None:
    with pytest.raises(ConfigurationError) as refused:
        Nginx(shared_secret=("X-Secret", "hunter2"))
    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize("name", ["Content-Type", "content-length"])
def test_a_secret_must_be_in_a_field_that_can_be_kept_from_applications(name: str) -> None:
    with pytest.raises(ConfigurationError, match=f"shared_secret in {name}"):
        Nginx(shared_secret=(name, SECRET[1]))


@pytest.mark.parametrize("rule", ["CN=proxy", 5, True, Subject, object()], ids=shown)
def test_an_invalid_rule_for_the_proxys_certificate_is_rejected(rule: Any) -> None:
    with pytest.raises(ConfigurationError, match="is not a rule"):
        Nginx(proxy_certificate=rule)


def test_a_value_is_escaped_as_nginx_does(mtls_client: IssuedCertificate) -> None:
    assert mtls_client.as_nginx()["X-SSL-Client-Cert"] == quote(mtls_client.pem, safe="")
