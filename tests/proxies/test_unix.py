"""Each proxy that can, in front of an application on a unix socket: believed for the socket, and for nothing else."""

import pytest

from tests.proxies import forgery, matrix
from tests.proxies.client import Answer, over_http1, over_http2
from tests.proxies.conftest import Stage, context

pytestmark = [
    pytest.mark.live,
    pytest.mark.case("003", "017"),
    pytest.mark.parametrize("stage", matrix.UNIX, indirect=True, ids=str),
]


def report_of(answer: Answer) -> str:
    certificate = answer.report["certificate"]
    if certificate is None:
        return "none"
    assert certificate["thumbprint"] == matrix.certificate("RSA").thumbprint
    return certificate["verification"]


@pytest.mark.parametrize("protocol", [over_http1, over_http2], ids=["http1", "http2"])
def test_an_application_on_a_unix_socket_is_told_what_the_table_says(stage: Stage, protocol):
    request = forgery.Request(forgery.forged())
    forged = protocol(
        stage.port, context("none"), stage.path, request.lines if protocol is over_http1 else request.for_http2
    )
    genuine = protocol(stage.port, context("none"), stage.path, [])
    by_address = stage.path.replace("-unix", "")
    found = {
        "its certificate": report_of(protocol(stage.port, context("RSA"), stage.path, [])),
        "no certificate": report_of(genuine),
        "no certificate, another's forged": report_of(forged),
        "its certificate, to a source that trusts an address alone": report_of(
            protocol(stage.port, context("RSA"), by_address, [])
        ),
    }
    assert found == matrix.UNIX_CASES
    assert forgery.arrived(stage.setup.proxy, forged.report) == forgery.arrived(stage.setup.proxy, genuine.report)
