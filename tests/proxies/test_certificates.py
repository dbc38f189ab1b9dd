"""Each proxy, configured by `proxy-config`: the certificate that the client presented is the one that is attached."""

import pytest

from tests.proxies import matrix
from tests.proxies.client import over_http1, over_http2
from tests.proxies.conftest import Stage, context

pytestmark = [pytest.mark.live, pytest.mark.parametrize("stage", matrix.SETUPS, indirect=True, ids=str)]


@pytest.mark.parametrize("protocol", [over_http1, over_http2], ids=["http1", "http2"])
@pytest.mark.parametrize("kind", matrix.KINDS)
def test_the_presented_certificate_is_attached_as_the_table_says(stage: Stage, kind, protocol):
    answer = protocol(stage.port, context(kind), stage.path, [])
    expected = matrix.expected(stage.setup, kind)
    if expected == "refused":
        assert answer.status in (0, 400), answer
        return
    assert answer.told is not None, answer
    certificate = answer.told["certificate"]
    if expected == "none":
        assert certificate is None
        return
    verification, _, chain = expected.partition(" +")
    assert certificate == {
        "thumbprint": matrix.certificate(kind).thumbprint,
        "verification": verification,
        "chain": int(chain or 0),
    }
