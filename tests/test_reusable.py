"""`Reusable`: how the times and checks of several results are combined."""

import math
from collections.abc import Callable

from mtls_middleware.reusable import Reusable, once


def check(found: bool) -> Callable[[float], bool]:
    return lambda now: found


def test_a_result_within_others_ends_with_the_first_of_them() -> None:
    one, two, three = (check(each) for each in (True, False, True))
    token = Reusable("token", 10, 50, (one,), 7)
    found = token.within(Reusable(None, 20, 90, (two,), 100), Reusable(None, 5, 40, (three,)))
    assert found == ("token", 20, 40, (one, two, three), 7)


def test_a_result_within_nothing_is_unlimited() -> None:
    assert Reusable("token").within() == ("token", -math.inf, math.inf, (), 0)
    assert Reusable("token").within(Reusable(None)) == Reusable("token")


def test_a_result_within_a_result_for_one_use_is_not_reused() -> None:
    assert Reusable("token", 10, 50).within(once(None)).ends == -math.inf
