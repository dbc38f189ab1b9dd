"""Both drivers, for each test that asks an authenticator."""

from functools import partial

import pytest

from tests.token_endpoint.roles import Ask, authentication_result


@pytest.fixture(params=[False, True], ids=["blocking", "awaiting"])
def ask(request: pytest.FixtureRequest) -> Ask:
    return partial(authentication_result, awaiting=request.param)
