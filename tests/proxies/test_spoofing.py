"""What a client forges never becomes an identity, and never reaches the application: each proxy, each form."""

import pytest

from tests.proxies import forgery, matrix
from tests.proxies.client import Answer, over_http1, over_http2
from tests.proxies.conftest import Stage, context

pytestmark = [
    pytest.mark.live,
    pytest.mark.parametrize("stage", matrix.FORGED_AT, indirect=True, ids=str),
    pytest.mark.parametrize("kind", ["none", "RSA"]),
    pytest.mark.parametrize("protocol", ["http1", "http2"]),
]


def send(stage: Stage, kind: str, protocol: str, request: forgery.Request) -> Answer:
    if protocol == "http1":
        return over_http1(stage.port, context(kind), stage.path, request.lines, request.trailer_lines)
    return over_http2(stage.port, context(kind), stage.path, request.for_http2, request.trailers)


def outcome(proxy: str, genuine: Answer, answer: Answer) -> str:
    """`"removed"`: the application was told the truth, and saw nothing else; `"refused"`; or what went wrong."""
    if answer.status in (0, 400, 403):
        return "refused"
    if answer.status != 200:
        return f"status {answer.status}"
    if answer.report["certificate"] != genuine.report["certificate"]:
        return f"FORGED {answer.report['certificate']}"
    if (arrived := forgery.arrived(proxy, answer.report)) != forgery.arrived(proxy, genuine.report):
        return f"arrived: {[name for name, _ in arrived]}"
    return "removed"


@pytest.mark.case("003", "005", "024", "028")
@pytest.mark.standard("I7", "I8")
def test_a_forged_field_is_removed_or_the_request_refused(stage: Stage, kind, protocol):
    genuine = send(stage, kind, protocol, forgery.Request())
    assert genuine.status == 200
    victim = matrix.certificate("victim")
    assert victim.thumbprint not in genuine.body.decode()
    found = {
        form: outcome(stage.setup.proxy, genuine, send(stage, kind, protocol, request))
        for form, request in forgery.requests().items()
    }
    assert found == {form: matrix.expected_of_forgery(stage.setup.proxy, form, protocol) for form in found}


@pytest.mark.case("003")
@pytest.mark.parametrize("spelling", [b"-", b"_"])
def test_no_name_of_any_proxy_gets_through(stage: Stage, kind, protocol, spelling):
    genuine = send(stage, kind, protocol, forgery.Request())
    for fields in forgery.known_headers(spelling):
        found = outcome(stage.setup.proxy, genuine, send(stage, kind, protocol, forgery.Request(fields)))
        assert found == "removed" or (found == "refused" and spelling == b"_"), fields
