"""`mtls-middleware revocations create|revoke|show`: the list of revoked tokens and certificates, by hand.

Must never know: how the list lies in Redis. Nothing of the address is ever printed: there may be a password in it.
"""

import argparse
import contextlib
import json
import os
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mtls_middleware.errors import ConfigurationError, Unavailable, require_extra
from mtls_middleware.json_values import json_value
from mtls_middleware.revocation.redis_list import RedisRevocations

# Where the address is looked for without --redis: an argument can be read by every user of the machine.
REDIS_VARIABLE = "MTLS_REVOCATIONS_REDIS"

_KEY = "mtls_middleware:revoked"  # as RedisRevocations has it
_ADDRESS = "redis://revocations.internal:6379/0, rediss:// with TLS, or unix:///path"
_TIMES = "2027-01-31T12:00:00Z, or seconds since 1970, as exp has them"

_MEMBERS = {"thumbprint", "token_id", "issuer", "until"}


class _NotDone(Exception):  # noqa: N818 (no error: the answer is no)
    """What was asked for was not done, and the arguments are not to blame."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Say which options the command takes."""
    parser.epilog = "Status 1: not done, or not known to be done; to try again does no harm."
    parser.set_defaults(redis=None, key=_KEY, json=False)
    _common(parser)
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    create = actions.add_parser("create", help="make the list where there is none: once, and after Redis lost it")
    create.add_argument(
        "--revoked",
        metavar="FILE",
        help="with what is revoked already: a line of JSON for each, with thumbprint, or token_id and issuer, and "
        "until; - reads standard input; default: an empty list",
    )
    revoke = actions.add_parser("revoke", help="revoke tokens and certificates; there is no way back")
    # Both can begin with "-", and then nothing but "=" shows that it is the value.
    revoke.add_argument("--token-id", action="append", default=[], metavar="JTI", help="as --token-id=JTI; repeatable")
    revoke.add_argument("--issuer", metavar="ISS", help="of these tokens: their iss, to the letter")
    revoke.add_argument(
        "--thumbprint", action="append", default=[], metavar="X5T", help="as --thumbprint=X5T (x5t#S256); repeatable"
    )
    revoke.add_argument(
        "--until", required=True, metavar="TIME", help=f"when they end by themselves (exp, notAfter): {_TIMES}"
    )
    show = actions.add_parser("show", help="say how much is on the list")
    for each in (create, revoke, show):
        _common(each)


def _common(parser: argparse.ArgumentParser) -> None:
    """Before the action as well as behind it: of a misplaced --redis argparse would quote the address."""
    absent = argparse.SUPPRESS  # of two defaults the inner one would win over what is given before the action
    parser.add_argument(
        "--redis", default=absent, metavar="URL", help=f"{_ADDRESS}; default, and with a password: {REDIS_VARIABLE}"
    )
    parser.add_argument("--key", default=absent, help=f"where the list lies; default: {_KEY}")
    parser.add_argument("--json", action="store_true", default=absent, help="print JSON")


def run(options: argparse.Namespace) -> int:
    """Do it and say so; 1 where it is not known to be done. Raises `ConfigurationError`."""
    revocations = RedisRevocations(_client(options.redis), key=options.key)
    try:
        told = _ACTIONS[options.action](revocations, options)
    except (Unavailable, _NotDone) as error:
        sys.stderr.write(f"mtls-middleware revocations {options.action}: {error.args[-1]}\n")
        return 1
    if options.json:
        sys.stdout.write(json.dumps(told) + "\n")
    else:
        sys.stdout.writelines(f"{name:9}{value}\n" for name, value in told.items())
    return 0


def _create(revocations: RedisRevocations, options: argparse.Namespace) -> dict[str, int]:
    revoked = [] if options.revoked is None else list(_lines(options.revoked))
    # Where two do this at once, both may find none: then there is one list, with the entries of both.
    if revocations.look() is not None:
        raise _NotDone(f"there is a list under {options.key!r} already; revoke adds to it")
    revocations.create(revoked)
    if not revoked:
        sys.stderr.write("an empty list: what was on one that Redis lost passes again, until it is revoked here\n")
    return {"revoked": len(revoked)}


def _revoke(revocations: RedisRevocations, options: argparse.Namespace) -> dict[str, int]:
    until = _moment("--until", options.until)
    revoked = [{"thumbprint": each, "until": until} for each in options.thumbprint]
    revoked += [{"token_id": each, "issuer": options.issuer, "until": until} for each in options.token_id]
    if not revoked:
        raise ConfigurationError("nothing to revoke: --thumbprint=..., or --token-id=... with --issuer https://...")
    if options.issuer is not None and not options.token_id:
        raise ConfigurationError("--issuer without --token-id=...: all tokens of an issuer cannot be revoked")
    revocations.revoke_each(revoked)
    return {"revoked": len(revoked)}


def _show(revocations: RedisRevocations, options: argparse.Namespace) -> dict[str, int]:
    found = revocations.look()
    if found is None:
        raise _NotDone(f"there is no list under {options.key!r}; create makes one, with --revoked of your own records")
    return {"entries": found.entries, "changes": found.changes}


_ACTIONS: dict[str, Callable[[RedisRevocations, argparse.Namespace], dict[str, int]]] = {
    "create": _create,
    "revoke": _revoke,
    "show": _show,
}


def _client(given: str | None) -> Any:
    """A client for the address, by option or environment. What the library says of a wrong one may quote a password."""
    require_extra("redis", "redis", "mtls-middleware revocations")
    import redis

    address = os.environ.get(REDIS_VARIABLE) if given is None else given
    if not address:
        raise ConfigurationError(f"where is Redis? --redis or {REDIS_VARIABLE}: {_ADDRESS}")
    retry = redis.retry.Retry(redis.backoff.NoBackoff(), 1)
    try:
        client = redis.Redis.from_url(address, socket_timeout=1, socket_connect_timeout=1, retry=retry)
        settings = client.get_connection_kwargs()
        client.connection_pool.make_connection()  # connects to nothing yet, and finds what it does not understand
    except Exception:  # noqa: BLE001 (whatever it raises, the address is wrong)
        settings = {}
    if not {"host", "path"} & settings.keys() or settings.get("retry") is not retry:  # an address can say that, too
        raise ConfigurationError(
            f"the address of Redis cannot be read: {_ADDRESS}; in user and password %XX for each of : / ? # @ %"
        )
    if given is not None and settings.get("password"):
        raise ConfigurationError(
            f"a password in --redis, where others can read it: give the address in {REDIS_VARIABLE}"
        )
    return client


def _lines(path: str) -> Iterator[dict[str, Any]]:
    """The arguments of `revoke` in each line of a file. Raises `ConfigurationError`, with the number of the line."""
    try:
        data = sys.stdin.buffer.read() if path == "-" else Path(path).read_bytes()
    except OSError as error:
        raise ConfigurationError(f"{path}: {error.strerror}") from error
    for number, line in enumerate(data.splitlines(), 1):
        where = f"{path}, line {number}"
        try:
            members = json_value(line)
        except ValueError:
            members = None
        if not isinstance(members, dict) or not {"until"} <= members.keys() <= _MEMBERS:
            raise ConfigurationError(
                f'{where}: expected {{"thumbprint": "...", "until": 1800000000}}, or token_id and issuer with until'
            )
        yield {**members, "until": _moment(f"{where}, until", members["until"])}


def _moment(name: str, given: object) -> datetime:
    """A time as it is written in tokens, or in ISO 8601 with its offset. Raises `ConfigurationError`."""
    moment = None
    with contextlib.suppress(ValueError, OverflowError, OSError):
        if isinstance(given, str) and not given.isdecimal():
            moment = datetime.fromisoformat(given)
        elif isinstance(given, (str, int, float)) and not isinstance(given, bool):
            moment = datetime.fromtimestamp(float(given), UTC)
    if moment is None or moment.tzinfo is None:
        raise ConfigurationError(f"{name} {given!r}: expected {_TIMES}")
    return moment
