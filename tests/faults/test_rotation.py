"""Keys rotate under load, with introspection beside them: nobody who is right is refused, nobody else is let in."""

import threading
from collections import Counter

import pytest

from mtls_middleware import wsgi_request
from mtls_middleware.resource_server import IntrospectedAccessTokens, MemoryAnswers, TrustedIssuers
from mtls_middleware.testing import IssuedCertificate, TokenIssuer
from tests.faults.server_process import ServerProcess
from tests.key_server import KeyServer, die
from tests.resource_server.stack import WSGIStack


class Clock:
    """Goes on by leaps, past the cool-down of key servers."""

    def __init__(self) -> None:
        import time

        self._time, self.ahead = time.time, 0.0

    def time(self) -> float:
        return self._time() + self.ahead


def answered(stack: WSGIStack, bearers: list[str], certificate: IssuedCertificate) -> Counter[tuple[str, int]]:
    """By kind of token and status, what fifty threads are answered who send them all at once."""
    seen: list[tuple[str, int]] = []
    barrier = threading.Barrier(50)

    def single_request() -> None:
        barrier.wait()
        for bearer in bearers:
            kind, _, token = bearer.partition(" ")
            seen.append((kind, stack.request(f"Bearer {token}", certificate=certificate).status))

    threads = [threading.Thread(target=single_request) for _ in range(50)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    return Counter(seen)


@pytest.mark.case("127", "128")
def test_keys_rotate_under_the_load_of_fifty_threads(
    mtls_client: IssuedCertificate, mtls_other_client: IssuedCertificate, monkeypatch: pytest.MonkeyPatch
) -> None:
    issuer, stranger, clock = TokenIssuer(), TokenIssuer(), Clock()
    monkeypatch.setattr(wsgi_request, "time", clock)
    with KeyServer(issuer.jwks) as keys, ServerProcess() as server:
        signed = issuer.access_tokens(jwks_uri=keys.url, allow_http=True)
        stack = WSGIStack(TrustedIssuers([signed, IntrospectedAccessTokens(**server.options, cache=MemoryAnswers())]))
        old = issuer.token(certificate=mtls_client)
        usual = [
            f"stolen {issuer.token(certificate=mtls_other_client)}",
            f"forged {stranger.token(certificate=mtls_client)}",
            f"opaque bound.{mtls_client.thumbprint}.1",
            f"revoked revoked.{mtls_client.thumbprint}.1",
        ]
        other = {("stolen", 401): 50, ("forged", 401): 50, ("opaque", 200): 50, ("revoked", 401): 50}
        assert answered(stack, [f"old {old}", *usual], mtls_client) == {("old", 200): 50, **other}

        issuer.rotate()
        keys.jwks, clock.ahead, keys.stall = issuer.jwks, 40, 0.2
        before, new = keys.requests, issuer.token(certificate=mtls_client)
        both = {("old", 200): 50, ("new", 200): 50, **other}
        assert answered(stack, [f"new {new}", f"old {old}", *usual], mtls_client) == both
        assert keys.requests == before + 1

        issuer.retire()
        keys.jwks, clock.ahead, keys.stall = issuer.jwks, 80, 0
        answered(stack, usual, mtls_client)  # a forged key id makes it look again: the old key is gone
        retired = {("old", 401): 50, ("new", 200): 50, **other}
        assert answered(stack, [f"old {old}", f"new {new}", *usual], mtls_client) == retired
        assert keys.requests == before + 2

        keys.behaviour, clock.ahead = die, 120
        server.kill()
        assert answered(stack, [f"new {new}"], mtls_client) == {("new", 200): 50}
        unknown = answered(stack, [f"unknown bound.{mtls_client.thumbprint}.2"], mtls_client)
        assert unknown == {("unknown", 503): 50}
