"""Which server made an environ, and what that means for the names of fields and for the peer's address."""

from io import BytesIO
from typing import Any

import pytest
from django.core.handlers.wsgi import LimitedStream

from mtls_middleware import ConfigurationError
from mtls_middleware.request import TESTING_KEY
from mtls_middleware.sources import AWSLoadBalancer, Cloudflare, Envoy, HeaderSource, Nginx
from mtls_middleware.sources.known_servers import KNOWN_SERVERS
from mtls_middleware.testing import IssuedCertificate
from mtls_middleware.wsgi_server import release_of, traits_of
from tests.ids import shown

Environ = dict[str, Any]

WAITRESS = {"SERVER_SOFTWARE": "waitress", "waitress.client_disconnected": lambda: False}
PLAIN: dict[str, Any] = {"certificate_header": "MtlsClientCert", "verify_header": "MtlsClientVerify"}
SECRET = ("MtlsProxySecret", "s" * 16)
TRUST = {"trusted_proxies": ["10.0.0.0/8"]}


def software(text: str, **more: Any) -> Environ:
    return {"SERVER_SOFTWARE": text, **more}


@pytest.mark.parametrize(
    ("environ", "apart", "address"),
    [
        (software("gunicorn/22.0.0"), True, True),
        (software("gunicorn/22.0"), True, True),
        (software("gunicorn/100.0.0"), True, True),
        (software("gunicorn/21.2.0"), False, False),
        (software("gunicorn/9.9.9"), False, False),  # as a string, it would be above 22
        (software("gunicorn/27.0.1", SERVER_PROTOCOL="HTTP/2.0"), True, True),
        (software("gunicorn/27.0.0", SERVER_PROTOCOL="HTTP/2"), True, True),
        (software("gunicorn/26.1.0", SERVER_PROTOCOL="HTTP/2.0"), False, False),
        (software("gunicorn/26.1.0", SERVER_PROTOCOL="HTTP/1.1"), True, True),
        (software("gunicorn"), False, False),
        (software("gunicorn/"), False, False),
        (software("gunicorn/22"), False, False),
        (software("gunicorn/22.0.0rc1"), False, False),
        (software("gunicorn/22.0.0.dev1"), False, False),
        (software("gunicorn/\u0662\u0662.\u0660.\u0660"), False, False),
        (software("Gunicorn/27.0.1"), False, False),
        (software("gunicorn-like/27.0.1"), False, False),
        (software("nginx gunicorn/27.0.1"), False, False),
        (software(" gunicorn/27.0.1"), False, False),
        (software("gevent/26.9 Python/3.11"), True, True),
        (software("gevent/26.9.0 gunicorn/27.0.1"), True, True),
        (software("gevent/1.1 Python/2.7"), False, False),
        (software("Werkzeug/3.1.9"), True, True),
        (software("Werkzeug/2.2.3"), False, False),
        (WAITRESS, True, True),
        (software("waitress"), False, False),  # waitress 0.9.0 says no more than this, and folds
        (software("gunicorn/27.0.1", **{"waitress.client_disconnected": bool}), True, True),  # its ident
        ({"mod_wsgi.version": (4, 9, 4), "SERVER_SOFTWARE": "Apache"}, True, False),
        ({"mod_wsgi.version": (4, 2, 8), "SERVER_SOFTWARE": "Apache"}, False, False),
        ({"mod_wsgi.version": "4.9.4"}, True, False),
        ({"mod_wsgi.version": None}, False, False),
        ({"uwsgi.version": b"2.0.21"}, False, False),
        (software("gunicorn/27.0.1", **{"uwsgi.version": b"2.0.21"}), False, False),
        (software("Cheroot/11.1.2 Server"), False, True),
        (software("CherryPy/18.10.0 Cheroot/11.1.2 Server", ACTUAL_SERVER_PROTOCOL="HTTP/1.1"), False, True),
        (software("gunicorn/27.0.1", ACTUAL_SERVER_PROTOCOL="HTTP/1.1"), False, True),
        (software("Granian"), False, True),
        (software("WSGIServer/0.2 CPython/3.11.7"), False, True),
        (software("WSGIServer/0.2 CPython/3.11.7", **{"wsgi.input": LimitedStream(BytesIO(), 0)}), True, True),
        (software("WSGIServer/0.2 CPython/3.11.7", **{"wsgi.input": BytesIO()}), False, True),
        (software("waitress", **{"wsgi.input": LimitedStream(BytesIO(), 0)}), False, False),
        (software("Apache/2.4.57"), False, False),
        (software("Unit/1.34.1"), False, False),
        (software(""), False, False),
        ({}, False, False),
        ({"SERVER_SOFTWARE": None}, False, False),
        ({"SERVER_SOFTWARE": b"gunicorn/27.0.1"}, False, False),
        ({TESTING_KEY: True}, True, True),
        ({TESTING_KEY: "True"}, False, False),  # as os.environ would have it
        ({TESTING_KEY: 1}, False, False),
        ({"HTTP_MTLS_MIDDLEWARE_TESTING": True, "HTTP_MTLS_MIDDLEWARE.TESTING": True}, False, False),
    ],
    ids=shown,
)
def test_a_server_is_trusted_as_far_as_it_is_known(environ: Environ, apart: bool, address: bool) -> None:
    traits = traits_of(environ)
    assert (traits.folding is None, traits.address_doubt is None) == (apart, address)


@pytest.mark.parametrize(
    ("text", "release"),
    [
        ("22.0.0", (22, 0, 0)), ("26.9", (26, 9)), ("1.2.3.4", (1, 2, 3, 4)), ("", None), ("22", None),
        ("1.2.3.4.5", None), ("1.2.", None), ("1..2", None), ("-1.2", None), ("1.2rc1", None), ("1.2\n", None),
        ("1_0.2", None), ("+1.2", None), ("\u00b9.2", None), ("1" * 5000 + ".2", None),
    ],
    ids=shown,
)  # fmt: skip
def test_a_release_is_two_to_four_numbers(text: str, release: Any) -> None:
    assert release_of(text) == release


def test_every_row_is_recognised_by_something() -> None:
    assert [row.name for row in KNOWN_SERVERS if row.software is None and row.key is None] == []
    keys = [row.key for row in KNOWN_SERVERS if row.key]
    assert len(keys) == len(set(keys))
    assert not [key for key in keys if key.startswith("HTTP_")]


class Settings:
    """gunicorn's, as far as the library looks at them."""

    def __init__(self, **options: Any) -> None:
        self.header_map, self.forwarder_headers, self.protocol = "drop", ["SCRIPT_NAME", "PATH_INFO"], "http"
        vars(self).update(options)


def gunicorns(settings: Any) -> Any:
    """A `start_response` as gunicorn gives it."""

    def start_response(self: Any, *_: Any) -> None: ...

    start_response.__module__ = "gunicorn.http.wsgi"
    return type("Response", (), {"start_response": start_response, "cfg": settings})().start_response


@pytest.mark.parametrize(
    ("settings", "apart"),
    [
        (Settings(), True),
        (Settings(header_map="refuse"), True),
        (Settings(header_map="dangerous"), False),
        (Settings(forwarder_headers=["SCRIPT_NAME", "X_SSL_CLIENT_CERT"]), False),
        (Settings(forwarder_headers=["*"]), False),
        (Settings(protocol="uwsgi"), False),
        (None, True),
    ],
)
def test_gunicorns_own_options_undo_what_is_known_of_it(settings: Any, apart: bool) -> None:
    traits = traits_of(software("gunicorn/27.0.1"), gunicorns(settings))
    assert (traits.folding is None) is apart
    assert traits.address_doubt is None


def test_another_middlewares_cfg_is_not_gunicorns() -> None:
    class Middleware:
        cfg = {"header_map": "dangerous"}  # noqa: RUF012  # unhashable, too

        def start_response(self, *_: Any) -> None: ...

    assert traits_of(software("gunicorn/27.0.1"), Middleware().start_response).folding is None


# ---- what a source makes of that


@pytest.mark.parametrize(
    ("source", "reads"),
    [
        (Nginx(**TRUST), True),
        (Nginx(**TRUST, proxy_deletes_underscores=True), False),
        (Nginx(**TRUST, **PLAIN), False),
        (Nginx(shared_secret=SECRET, **PLAIN), False),
        (Nginx(shared_secret=("X-Proxy-Secret", "s" * 16), **PLAIN), True),
        (Nginx(**TRUST, certificate_header="MtlsClientCert"), True),  # its word still has hyphens
        (Nginx(**TRUST, certificate_header="MtlsClientCert", verify_header=False), False),
        (Nginx(**TRUST, **PLAIN | {"verify_header": "MtlsClient-Verify"}), True),
        (Nginx(**TRUST, **PLAIN | {"certificate_header": "XSSLClientCert"}), True),  # X + sharp s + LClientCert
        (Envoy(**TRUST), True),
        (Envoy(**TRUST, certificate_header="MtlsClientCert"), False),
        (Envoy(**TRUST, proxy_deletes_underscores=True), False),
        (AWSLoadBalancer(mode="verify", **TRUST), True),
        (AWSLoadBalancer(mode="verify", **TRUST, proxy_deletes_underscores=True), False),
        # Cf-Cert-Revoked and Cf-Client-Cert-Sha256 cannot be renamed.
        (Cloudflare(**TRUST, certificate_header="MtlsClientCert", verify_header="MtlsClientVerify"), True),
    ],
)
def test_a_source_says_whether_it_reads_a_name_that_another_can_fold_into(source: HeaderSource, reads: bool) -> None:
    assert source.reads_hyphens is reads


@pytest.mark.parametrize("statement", ["true", 1, None, 0, "False"])
def test_the_statement_about_the_proxy_is_true_or_false(statement: Any) -> None:
    for make in (Nginx, Envoy):
        with pytest.raises(ConfigurationError, match=r"proxy_deletes_underscores=.*expected True or False"):
            make(**TRUST, proxy_deletes_underscores=statement)


def test_a_source_says_what_it_trusts(mtls_client: IssuedCertificate) -> None:
    def rule(certificate: object) -> bool:
        return True

    tried: list[tuple[dict[str, Any], bool, bool]] = [
        (TRUST, False, True),
        ({"shared_secret": SECRET}, True, False),
        ({**TRUST, "shared_secret": SECRET}, True, False),
        ({**TRUST, "proxy_certificate": rule}, False, False),
        ({"proxy_certificate": rule}, False, False),
    ]
    for keywords, secret, alone in tried:
        source = Nginx(**keywords)
        assert (source.has_secret, source.trusts_address_alone) == (secret, alone)
