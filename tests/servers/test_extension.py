"""The TLS extension from what `ssl` says, and how an application is told: the odd ones.

What handshakes of ours give, server by server: `test_each_server.py`.
"""

import asyncio
import ssl
from pathlib import Path
from typing import Any

import pytest

from mtls_middleware.servers.extension import extension, extension_from_ssl, first_certificate, with_tls_extension
from mtls_middleware.testing import CertificateAuthority

CA = CertificateAuthority()
SERVER = CA.server()
CLIENT = CA.intermediate().issue("CN=billing,O=Acme")


def test_only_the_first_certificate_of_the_file_is_told_and_never_the_key(tmp_path: Path) -> None:
    both = tmp_path / "both.pem"
    both.write_text(SERVER.key_pem + SERVER.pem + CA.pem)
    assert first_certificate(both) == SERVER.pem
    assert first_certificate(tmp_path / "absent.pem") is None
    (tmp_path / "key.pem").write_text(SERVER.key_pem)
    assert first_certificate(tmp_path / "key.pem") is None


class Negotiated:
    """What the module asks of an `ssl.SSLObject`."""

    def __init__(self, leaf: bytes | None, *, mode: ssl.VerifyMode = ssl.CERT_REQUIRED, cipher: str = "none") -> None:
        self.leaf, self._cipher = leaf, cipher
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.verify_mode = mode

    def getpeercert(self, binary_form: bool) -> bytes | None:
        assert binary_form
        return self.leaf

    def version(self) -> str:
        return "TLSv1.4"

    def cipher(self) -> tuple[str, str, int]:
        return (self._cipher, "TLSv1.4", 0)


def test_a_file_that_cannot_be_read_once_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "server.pem"
    assert first_certificate(path) is None
    path.write_text(CertificateAuthority().pem, "ascii")
    assert first_certificate(path) is not None


def test_what_cannot_be_had_is_none() -> None:
    tls = extension_from_ssl(Negotiated(CLIENT.der), None)
    assert tls["client_cert_chain"] == (CLIENT.pem,)
    assert [tls[key] for key in ("server_cert", "tls_version", "cipher_suite")] == [None, None, None]


def test_an_unparsable_certificate_is_passed_on_without_a_name() -> None:
    """OpenSSL accepts some that `cryptography` does not; that it is there is not hidden, so `ServerTLS` refuses it."""
    tls = extension_from_ssl(Negotiated(b"not DER"), None)
    assert tls["client_cert_name"] is None
    assert tls["client_cert_chain"] == (ssl.DER_cert_to_PEM_cert(b"not DER"),)


def test_a_context_that_verifies_nothing_never_says_verified() -> None:
    tls = extension_from_ssl(Negotiated(CLIENT.der, mode=ssl.CERT_NONE), None)
    assert tls["client_cert_error"]
    assert extension_from_ssl(Negotiated(None, mode=ssl.CERT_NONE), None)["client_cert_error"] is None


@pytest.mark.parametrize("theirs", [{}, {"client_cert_chain": ()}, {"client_cert": b"theirs"}])
def test_an_extension_that_is_there_already_stays(theirs: dict[str, Any]) -> None:
    seen: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope)

    scope = {"type": "http", "extensions": {"tls": theirs}}
    asyncio.run(awaited(with_tls_extension(app, lambda: {"client_cert_chain": ("ours",)})(scope, None, None)))
    assert seen == [scope]
    assert seen[0]["extensions"]["tls"] is theirs


@pytest.mark.parametrize("extensions", [{}, {"extensions": None}, {"extensions": {"http.response.push": {}}}])
def test_the_servers_own_scope_gets_it_and_other_extensions_stay(extensions: dict[str, Any]) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        scope["client"] = ("192.0.2.7", 0)

    scope: dict[str, Any] = {"type": "http", **extensions}
    tls: dict[str, object] = {"client_cert_chain": ("ours",)}
    asyncio.run(awaited(with_tls_extension(app, lambda: tls)(scope, None, None)))
    assert scope["extensions"] == {**(extensions.get("extensions") or {}), "tls": tls}
    assert scope["extensions"]["tls"] is not tls
    assert scope["client"] == ("192.0.2.7", 0)  # uvicorn's access log reads this very scope


async def awaited(awaitable: Any) -> Any:
    return await awaitable


@pytest.mark.parametrize("others", [(), (1, 2)])
def test_it_is_read_at_the_first_request_and_no_more_and_told_to_each(others: tuple[int, ...]) -> None:
    reads: list[int] = []
    seen: list[Any] = []

    def read() -> dict[str, object]:
        reads.append(1)
        return {"client_cert_chain": ("ours",)}

    def app(scope: Any, *rest: Any) -> None:
        seen.append(dict(scope["extensions"]["tls"]))
        assert rest == others  # hypercorn hands its applications more than ASGI's three
        scope["extensions"]["tls"]["client_cert_chain"] = ("forged",)

    wrapped = with_tls_extension(app, read)
    assert reads == []
    for _ in range(3):
        wrapped({"type": "http"}, *others)
    assert reads == [1]
    assert seen == [{"client_cert_chain": ("ours",)}] * 3


def test_a_failed_read_is_retried_and_does_not_reach_the_application() -> None:
    def read() -> dict[str, object]:
        raise OSError("gone")

    wrapped = with_tls_extension(lambda *_: pytest.fail("reached"), read)
    for _ in range(2):
        with pytest.raises(OSError, match="gone"):
            wrapped({"type": "http"}, None, None)


@pytest.mark.standard("J3")
@pytest.mark.parametrize(
    ("presented", "chain"),
    [
        ((), (CLIENT.der,)),
        ((CLIENT.der, SERVER.der), (CLIENT.der, SERVER.der)),
        ((SERVER.der,), (CLIENT.der,)),  # a chain of somebody else's is nobody's
        ((SERVER.der, CLIENT.der), (CLIENT.der,)),
    ],
    ids=["none", "leaf first", "without the leaf", "leaf last"],
)
def test_the_chain_begins_with_the_leaf_or_is_the_leaf_alone(
    presented: tuple[bytes, ...], chain: tuple[bytes, ...]
) -> None:
    facts: Any = {"server_cert": None, "error": None, "version": None, "cipher_suite": None}
    tls = extension(leaf=CLIENT.der, presented=presented, **facts)
    assert tls["client_cert_chain"] == tuple(map(ssl.DER_cert_to_PEM_cert, chain))
    assert tls["client_cert_name"] == "CN=billing,O=Acme"
    assert extension(leaf=None, presented=presented, **facts)["client_cert_chain"] == ()
