"""Measure 2: a new token from a known issuer, bound to a certificate that was seen before."""

import itertools
from collections.abc import Callable
from typing import Any

import jwt

from tests.benchmarks import by_hand, raw, stacks
from tests.benchmarks.carriers import ASGI, GATEWAYS, WSGI, Application
from tests.benchmarks.loop import Size, Subject, Times, take_turns
from tests.benchmarks.table import Row, microseconds

GOAL, GOAL_AUTHLIB = 1.25, 2
_CLAIMS = ["iss", "exp", "aud", "sub", "client_id", "iat", "jti"]  # RFC 9068 2.2


def rows(quick: bool) -> list[Row]:
    return [*(_against_pyjwt(gateway, quick) for gateway in GATEWAYS), _against_authlib(quick)]


def tokens() -> Any:
    """Without end, each a new one."""
    return (stacks.token() for _ in itertools.count())


def decoding() -> Callable[[str], Any]:
    """`jwt.decode` with what a resource server must check, all in one call."""
    issuer = stacks.issuer()
    key = jwt.PyJWK(issuer.jwks["keys"][-1]).key

    def decode(text: str) -> Any:
        return jwt.decode(
            text,
            key,
            algorithms=["ES256"],
            audience=issuer.audience,
            issuer=issuer.issuer,
            options={"require": _CLAIMS},
        )

    return decode


def _against_pyjwt(gateway: WSGI | ASGI, quick: bool) -> Row:
    bare, inner = Application(), Application()
    app = stacks.full_stack(gateway.name, getattr(inner, gateway.name), stacks.RFC9440)

    def request(text: str) -> Any:
        return gateway.carrier(stacks.headers(stacks.RFC9440, stacks.client(), text))

    requests = stacks.drawn(tokens(), request)
    times = take_turns(
        {
            "bare": Subject(gateway.runner(getattr(bare, gateway.name)), requests),
            "ours": Subject(gateway.runner(app), requests),
            "decode": Subject(decoding(), stacks.drawn(tokens(), lambda text: text)),
            "raw": raw.verification(),
        },
        Size.of(quick=quick, operations=10),
    )
    assert inner.reached == bare.reached, "requests were refused: what was timed is no accepted token"
    added, alone, unit = times["ours"].over(times["bare"]), times["decode"].median, times["raw"].median
    return Row(
        2,
        f"new token, {gateway.name.upper()}",
        f"{microseconds(added.median)} added",
        f"{microseconds(alone)} jwt.decode alone",
        added.median / alone,
        GOAL,
        note=f"{added.median / unit:.2f} of a raw verification ({microseconds(unit)}); jwt.decode {alone / unit:.2f}",
    )


def _against_authlib(quick: bool) -> Row:
    def request(text: str) -> Any:
        return WSGI().carrier(stacks.headers(stacks.NGINX, stacks.client(), text))

    requests = stacks.drawn(tokens(), request)
    reached: dict[str, list[int]] = {"bare": [], "ours": [], "theirs": []}
    guarded = by_hand.flask_application(reached["ours"])
    guarded.wsgi_app = stacks.full_stack("wsgi", guarded.wsgi_app, stacks.NGINX)
    apps = {
        "bare": by_hand.flask_application(reached["bare"]),
        "ours": guarded,
        "theirs": by_hand.flask_with_authlib(reached["theirs"]),
    }
    times: dict[str, Times] = take_turns(
        {**{name: Subject(WSGI().runner(app), requests) for name, app in apps.items()}, "raw": raw.verification()},
        Size.of(quick=quick, operations=10),
    )
    assert len({len(each) for each in reached.values()}) == 1, "requests were refused"
    ours, theirs = (times[name].over(times["bare"]).median for name in ("ours", "theirs"))
    return Row(
        2,
        "new token, Flask",
        f"{microseconds(ours)} added",
        f"{microseconds(theirs)} Authlib's RFC 9068 validator, thumbprint by hand",
        theirs / ours,
        GOAL_AUTHLIB,
        at_least=True,
        note=f"how many times as fast; a raw verification, which is in both, {microseconds(times['raw'].median)}; "
        f"bare Flask {microseconds(times['bare'].median)}",
    )
