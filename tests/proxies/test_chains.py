"""Each proxy and the chains that clients send: unneeded certificates never cause a good leaf to be rejected.

RFC 8446 4.4.2: a server should be prepared to handle certificates that no path needs, in any order.
"""

from dataclasses import replace
from pathlib import Path

import pytest

from tests.live.servers import free_port
from tests.proxies import chains, matrix, programs
from tests.proxies.client import in_turn
from tests.proxies.conftest import Stage, options_for, until_it_answers
from tests.proxies.matrix import Setup

pytestmark = pytest.mark.live


@pytest.mark.case("048", "057")
@pytest.mark.parametrize("stage", [*chains.SETUPS, *chains.JOINED], indirect=True, ids=str)
@pytest.mark.parametrize("kind", chains.KINDS)
def test_the_leaf_is_accepted_whatever_else_the_client_sends(stage: Stage, kind: str):
    setup, leaf = stage.setup, chains.client().thumbprint
    paths = [f"{stage.path}{guard}" for guard in ("", "roots/", "issuers/")]
    plain, roots, issuers = in_turn(stage.port, chains.context(kind), [(path, []) for path in paths])
    expected = chains.expected(setup, kind)
    if expected == "refused":
        assert {plain.status, roots.status, issuers.status} <= {0, 400}, (plain, roots, issuers)
        return
    verification, _, length = expected.partition(" +")
    about = {"thumbprint": leaf, "chain": int(length)}
    assert plain.report["certificate"] == {**about, "verification": verification}
    assert issuers.report["certificate"] == {**about, "verification": "BY_TRUST_STORE"}
    if chains.store_finds_a_path(setup, kind):
        assert roots.report["certificate"] == {**about, "verification": "BY_TRUST_STORE"}
    else:
        assert roots.status == 403


OWN_FORMS = [each for each in chains.SETUPS if each.form == "idiomatic" and each.mode == "required"]


@pytest.mark.parametrize("setup", OWN_FORMS, ids=str)
def test_a_proxy_that_has_the_issuer_accepts_every_chain(setup: Setup, upstream, server_files: Path, tmp_path: Path):
    port = free_port()
    authorities = tmp_path / "authorities.pem"
    authorities.write_text(matrix.clients().pem + chains.issuer().pem)
    options = replace(options_for(setup, port, upstream(setup), server_files), ca=str(authorities))
    folder = tmp_path / "proxy"
    folder.mkdir()
    with programs.proxy(options, folder):
        until_it_answers(port, f"/{setup.key}/")
        for kind in chains.UNVERIFIED:
            (answer,) = in_turn(port, chains.context(kind), [(f"/{setup.key}/", [])])
            assert answer.report["certificate"]["thumbprint"] == chains.client().thumbprint, kind


@pytest.mark.parametrize("stage", OWN_FORMS, indirect=True, ids=str)
def test_the_longest_path_of_a_proxy_is_that_of_the_table(stage: Stage):
    longest = chains.LONGEST_PATH[stage.setup.proxy]
    for length, is_accepted in ((min(longest, 5), True), (longest, True), (longest + 1, False)):
        client = chains.path(length)
        context = chains.presenting(client.der, client.key_pem, [chains.der(each) for each in client.chain])
        answer, roots = in_turn(stage.port, context, [(stage.path, []), (f"{stage.path}roots/", [])])
        # 431: the proxy accepts the path, and the server does not accept the field with the chain.
        assert answer.status in ((200, 431) if is_accepted else (0, 400)), length
        if length == min(longest, 5) and (stage.setup.proxy, "idiomatic") in matrix.CHAINS:
            assert roots.report["certificate"]["verification"] == "BY_TRUST_STORE"


@pytest.mark.parametrize("stage", OWN_FORMS, indirect=True, ids=str)
def test_the_largest_chain_of_a_proxy_is_that_of_the_table(stage: Stage):
    largest = chains.LARGEST[stage.setup.proxy]
    sends_chain = (stage.setup.proxy, "idiomatic") in matrix.CHAINS
    # HAProxy leaves out a field that does not fit into its buffer.
    too_large = {200} if stage.setup.proxy == "haproxy" or not sends_chain else {431}
    for size, statuses in (
        (chains.FITS, {200}),
        (50_000, {431} if sends_chain else {200}),
        (largest - 2_000, too_large),
        (largest + 2_000, {0}),
    ):
        context = chains.presenting(chains.client().der, chains.client().key_pem, chains.large_chain(size))
        (answer,) = in_turn(stage.port, context, [(stage.path, [])])
        assert answer.status in statuses, size
