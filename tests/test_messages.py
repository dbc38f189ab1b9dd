"""Long lists in messages."""

import pytest

from mtls_middleware.messages import short_list


@pytest.mark.parametrize(
    ("items", "expected"), [([], ""), (["a"], "a"), (["a", "b"], "a, b"), (["a", "b", "c", "d"], "a, b, and 2 more")]
)
def test_long_list_is_cut_and_counted(items: list[str], expected: str) -> None:
    assert short_list(items, 2) == expected
