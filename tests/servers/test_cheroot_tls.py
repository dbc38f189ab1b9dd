"""cheroot's adapter: what it adds to cheroot's own, and what it says when that has moved.

What it hands over, request by request: `test_each_server.py`.
"""

import contextlib
import re
import ssl
from pathlib import Path
from typing import Any

import pytest
from cheroot.ssl.builtin import BuiltinSSLAdapter

from mtls_middleware import ConfigurationError
from mtls_middleware.servers import cheroot_tls
from mtls_middleware.testing import IssuedCertificate
from tests.live.servers import tls_files
from tests.servers.clients import BILLING, CA, STOCK


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> Any:
    files = tls_files(CA, tmp_path_factory.mktemp("tls"))
    adapter = cheroot_tls.Adapter(f"{files}/server.pem", f"{files}/server-key.pem")
    adapter.context.load_verify_locations(f"{files}/ca.pem")
    adapter.context.verify_mode = ssl.CERT_OPTIONAL
    return adapter


def handshake(adapter: Any, client: IssuedCertificate | None) -> Any:
    """The server's end of a connection, as cheroot has it: nothing of it needs a network."""
    context = CA.client_context(client)
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ours = context.wrap_bio(to_client, to_server, server_hostname="localhost")
    theirs = adapter.context.wrap_bio(to_server, to_client, server_side=True)
    for _ in range(4):
        for end in (ours, theirs):
            with contextlib.suppress(ssl.SSLWantReadError):
                end.do_handshake()
    return theirs


def environ(adapter: Any, client: IssuedCertificate | None) -> dict[str, Any]:
    return dict(adapter.get_environ(handshake(adapter, client)))


@pytest.mark.parametrize("client", [BILLING, STOCK], ids=["one", "two"])
def test_the_rest_of_the_chain_is_there_in_order_in_mod_ssls_names(adapter: Any, client: IssuedCertificate) -> None:
    given = environ(adapter, client)
    leaf, *rest = re.findall(r"-----BEGIN.*?END CERTIFICATE-----\n", client.chain_pem, re.DOTALL)
    assert given["SSL_CLIENT_CERT"].strip() == leaf.strip()
    assert given["SSL_CLIENT_VERIFY"] == "SUCCESS"
    assert [given.pop(f"SSL_CLIENT_CERT_CHAIN_{number}") for number in range(len(rest))] == rest
    assert not [each for each in given if each.startswith("SSL_CLIENT_CERT_CHAIN_")]


def test_without_a_certificate_there_is_no_chain(adapter: Any) -> None:
    given = environ(adapter, None)
    assert given["SSL_CLIENT_VERIFY"] == "NONE"
    assert not [each for each in given if each.startswith("SSL_CLIENT_CERT")]


def test_cheroots_own_adapter_still_needs_it(adapter: Any) -> None:
    """The control of the tests above. When it fails, cheroot was mended, and the adapter may go."""
    given = BuiltinSSLAdapter.get_environ(adapter, handshake(adapter, BILLING))
    assert given["SSL_CLIENT_VERIFY"] == "SUCCESS"
    assert not [each for each in given if each.startswith("SSL_CLIENT_CERT_CHAIN_")]


def test_a_chain_that_cheroot_gives_itself_stays(adapter: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    theirs = {"SSL_CLIENT_CERT": BILLING.pem, "SSL_CLIENT_CERT_CHAIN_0": "theirs"}
    monkeypatch.setattr(BuiltinSSLAdapter, "get_environ", lambda self, sock: dict(theirs))
    assert environ(adapter, STOCK)["SSL_CLIENT_CERT_CHAIN_0"] == "theirs"


# --- a moved interface ---


@pytest.fixture
def unnamed(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """As if the class had not been named yet."""
    monkeypatch.delitem(vars(cheroot_tls), "Adapter", raising=False)
    return monkeypatch


class OtherArguments(BuiltinSSLAdapter):
    def get_environ(self, sock: Any, session: Any) -> dict[str, Any]:
        raise NotImplementedError


class OtherWrap(BuiltinSSLAdapter):
    def wrap(self, sock: Any) -> Any:
        raise NotImplementedError


class NoEnviron:
    def wrap(self, sock: Any) -> Any:
        raise NotImplementedError


@pytest.mark.parametrize(
    ("moved", "message"),
    [
        (OtherArguments, "the argument of get_environ is not named sock"),
        (OtherWrap, "does not call get_environ"),
        (NoEnviron, "no get_environ"),
    ],
)
def test_a_moved_interface_is_told(unnamed: pytest.MonkeyPatch, moved: type, message: str) -> None:
    unnamed.setattr("cheroot.ssl.builtin.BuiltinSSLAdapter", moved)
    with pytest.raises(ConfigurationError, match=f"{message}.*pip install 'cheroot==11.1") as refused:
        cheroot_tls.Adapter  # noqa: B018 (the access alone raises)
    assert "of cheroot 1" in str(refused.value)


def test_without_cheroot_the_line_to_type_is_told(unnamed: pytest.MonkeyPatch) -> None:
    unnamed.setattr("mtls_middleware.servers.interface.find_spec", lambda name: None)
    with pytest.raises(ConfigurationError, match="pip install 'cheroot>="):
        cheroot_tls.Adapter  # noqa: B018 (the access alone raises)


def test_the_class_is_created_once_and_other_names_raise_attribute_error(tmp_path: Path) -> None:
    assert cheroot_tls.Adapter is cheroot_tls.Adapter
    assert issubclass(cheroot_tls.Adapter, BuiltinSSLAdapter)
    with pytest.raises(AttributeError, match="'Adaptor'"):
        cheroot_tls.Adaptor  # noqa: B018 (the access alone raises)
