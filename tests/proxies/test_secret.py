"""Each proxy adds the shared secret: it arrives once, a client's own guess never, and nobody is believed without it."""

import http.client
import json

import pytest

from mtls_middleware.cli.proxies import SECRET
from tests.proxies import forgery, matrix
from tests.proxies.client import Answer, Field, over_http1, over_http2
from tests.proxies.conftest import Stage, context

pytestmark = [
    pytest.mark.live,
    pytest.mark.case("003"),
    pytest.mark.parametrize("stage", matrix.SECRETS, indirect=True, ids=str),
]


def status_of(stage: Stage, protocol: str, request: forgery.Request) -> Answer:
    if protocol == "http1":
        return over_http1(stage.port, context("RSA"), stage.path, request.lines, request.trailer_lines)
    return over_http2(stage.port, context("RSA"), stage.path, request.for_http2, request.trailers)


def outcome(answer: Answer) -> str:
    """`"removed"`: the proxy's own secret arrives, nothing else; `"refused"`; or what went wrong."""
    if answer.status in (0, 400, 403):
        return "refused"
    arrived = [value for name, value in answer.report["arrived"] if name.lower() == "mtlsproxysecret"]
    if arrived != [matrix.SECRET]:
        return f"arrived: {arrived}"
    assert matrix.SECRET not in json.dumps(answer.report["seen"])
    certificate = answer.report["certificate"]
    return "removed" if certificate["thumbprint"] == matrix.certificate("RSA").thumbprint else str(certificate)


@pytest.mark.parametrize("protocol", ["http1", "http2"])
def test_the_secret_arrives_once_whatever_the_client_sends(stage: Stage, protocol):
    assert outcome(status_of(stage, protocol, forgery.Request())) == "removed"
    found = {form: outcome(status_of(stage, protocol, request)) for form, request in forgery.guesses().items()}
    assert found == {form: matrix.expected_of_forgery(stage.setup.proxy, form, protocol) for form in found}


def past_the_proxy(stage: Stage, secret: str | None) -> str:
    """What the application is told by somebody at a trusted address who sends what the proxy would."""
    fields: list[Field] = forgery.escaped() if stage.setup.proxy in ("nginx", "apache") else forgery.forged()
    headers = {name.decode(): value.decode() for name, value in fields}
    assert isinstance(stage.upstream, int)
    connection = http.client.HTTPConnection("127.0.0.1", stage.upstream, timeout=20)
    try:
        connection.request("GET", stage.path, headers=headers | ({SECRET: secret} if secret else {}))
        certificate = json.loads(connection.getresponse().read())["certificate"]
    finally:
        connection.close()
    if certificate is None:
        return "none"
    assert certificate["thumbprint"] == matrix.certificate("victim").thumbprint
    return certificate["verification"]


def test_a_client_that_bypasses_the_proxy_needs_the_secret(stage: Stage):
    found = {
        "the secret": past_the_proxy(stage, matrix.SECRET),
        "no secret": past_the_proxy(stage, None),
        "a guess": past_the_proxy(stage, "guess-of-the-client"),
        "the secret but for its end": past_the_proxy(stage, matrix.SECRET[:-1]),
    }
    assert found == matrix.SECRET_CASES
