"""The command `mtls-middleware revocations create|revoke|show`: manages the list of revoked tokens and certificates.

Never prints any part of the Redis address, because it may contain a password.
"""

import argparse
import contextlib
import json
import os
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mtls_middleware.errors import ConfigurationError, Unavailable, require_extra
from mtls_middleware.json_values import json_value

if TYPE_CHECKING:
    from mtls_middleware.revocation.redis_list import RedisRevocations

# The environment variable with the Redis address. An argument would be visible to every user of the machine.
REDIS_VARIABLE = "MTLS_REVOCATIONS_REDIS"

_KEY = "mtls_middleware:revoked"  # the default of RedisRevocations
_ADDRESS = "redis://revocations.internal:6379/0, rediss:// with TLS, or unix:///path"
_TIME_EXAMPLES = "2027-01-31T12:00:00Z, or seconds since 1970 as in exp"

_MEMBERS = {"thumbprint", "token_id", "issuer", "until"}


class _NotDone(Exception):  # noqa: N818 (a result, not an error)
    """The command was not carried out, although its arguments are valid."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.epilog = "Exit status 1: the command failed, or its result is unknown. It is safe to try again."
    parser.set_defaults(redis=None, key=_KEY, json=False)
    _common_options(parser)
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    create = actions.add_parser("create", help="create the list, if there is none: once, and again if Redis lost it")
    create.add_argument(
        "--revoked",
        metavar="FILE",
        help="the tokens and certificates that are already revoked: one JSON object a line, with until, and with "
        "thumbprint or with token_id and issuer; - reads standard input; default: an empty list",
    )
    revoke = actions.add_parser("revoke", help="revoke tokens and certificates; this cannot be undone")
    # Both values can begin with "-". argparse then accepts them only after "=".
    revoke.add_argument(
        "--token-id",
        action="append",
        default=[],
        metavar="JTI",
        help="revoke this token, written as --token-id=JTI; may be repeated",
    )
    revoke.add_argument("--issuer", metavar="ISS", help="the issuer of these tokens, exactly as in iss")
    revoke.add_argument(
        "--thumbprint",
        action="append",
        default=[],
        metavar="X5T",
        help="revoke the certificate with this x5t#S256, written as --thumbprint=X5T; may be repeated",
    )
    revoke.add_argument(
        "--until",
        required=True,
        metavar="TIME",
        help=f"when the tokens or certificates expire (exp, notAfter): {_TIME_EXAMPLES}",
    )
    show = actions.add_parser("show", help="print the number of entries and changes")
    for each in (create, revoke, show):
        _common_options(each)


def _common_options(parser: argparse.ArgumentParser) -> None:
    """Accept these options before and after the action. Otherwise argparse would print a misplaced --redis address."""
    absent = argparse.SUPPRESS  # a default of the action would replace the value that is given before the action
    parser.add_argument(
        "--redis",
        default=absent,
        metavar="URL",
        help=f"{_ADDRESS}; default, and required for a password: the environment variable {REDIS_VARIABLE}",
    )
    parser.add_argument("--key", default=absent, help=f"the Redis key of the list; default: {_KEY}")
    parser.add_argument("--json", action="store_true", default=absent, help="print JSON")


def run(options: argparse.Namespace) -> int:
    """Run the action and print its result. Return 1 if it failed or if its result is unknown.

    Raises `ConfigurationError`.
    """
    from mtls_middleware.revocation.redis_list import RedisRevocations  # a part of the library that may be absent

    revocations = RedisRevocations(_client(options.redis), key=options.key)
    try:
        result = _ACTIONS[options.action](revocations, options)
    except (Unavailable, _NotDone) as error:
        sys.stderr.write(f"mtls-middleware revocations {options.action}: {error.args[-1]}\n")
        return 1
    if options.json:
        sys.stdout.write(json.dumps(result) + "\n")
    else:
        sys.stdout.writelines(f"{name:9}{value}\n" for name, value in result.items())
    return 0


def _create(revocations: "RedisRevocations", options: argparse.Namespace) -> dict[str, int]:
    revoked = [] if options.revoked is None else list(_read_entries(options.revoked))
    # Two processes may both find no list. Then the list gets the entries of both.
    if revocations.look() is not None:
        raise _NotDone(f"there is already a list under {options.key!r}; use revoke to add entries")
    revocations.create(revoked)
    if not revoked:
        sys.stderr.write("the list is empty: entries of a lost list are accepted until you revoke them again\n")
    return {"revoked": len(revoked)}


def _revoke(revocations: "RedisRevocations", options: argparse.Namespace) -> dict[str, int]:
    until = _parse_time("--until", options.until)
    revoked = [{"thumbprint": each, "until": until} for each in options.thumbprint]
    revoked += [{"token_id": each, "issuer": options.issuer, "until": until} for each in options.token_id]
    if not revoked:
        raise ConfigurationError(
            "nothing to revoke: expected --thumbprint=..., or --token-id=... with --issuer https://..."
        )
    if options.issuer is not None and not options.token_id:
        raise ConfigurationError(
            "--issuer without --token-id=...: it is not possible to revoke all tokens of an issuer"
        )
    revocations.revoke_each(revoked)
    return {"revoked": len(revoked)}


def _show(revocations: "RedisRevocations", options: argparse.Namespace) -> dict[str, int]:
    found = revocations.look()
    if found is None:
        raise _NotDone(f"there is no list under {options.key!r}; run create, with your own records in --revoked")
    return {"entries": found.entries, "changes": found.changes}


_ACTIONS: dict[str, Callable[["RedisRevocations", argparse.Namespace], dict[str, int]]] = {
    "create": _create,
    "revoke": _revoke,
    "show": _show,
}


def _client(given: str | None) -> Any:
    """A Redis client for the address in the option or environment. Raises `ConfigurationError`.

    The errors of the redis library are hidden, because they may quote a password.
    """
    require_extra("redis", "redis", "mtls-middleware revocations")
    import redis

    address = os.environ.get(REDIS_VARIABLE) if given is None else given
    if not address:
        raise ConfigurationError(
            f"no address of Redis is given: set --redis or {REDIS_VARIABLE}, for example to {_ADDRESS}"
        )
    retry = redis.retry.Retry(redis.backoff.NoBackoff(), 1)
    try:
        client = redis.Redis.from_url(address, socket_timeout=1, socket_connect_timeout=1, retry=retry)
        settings = client.get_connection_kwargs()
        client.connection_pool.make_connection()  # does not connect, but raises for invalid settings
    except Exception:  # noqa: BLE001 (any exception means an invalid address)
        settings = {}
    if not {"host", "path"} & settings.keys() or settings.get("retry") is not retry:  # an address can set retry, too
        raise ConfigurationError(
            f"the address of Redis cannot be read: expected {_ADDRESS}; write : / ? # @ % as %XX in user and password"
        )
    if given is not None and settings.get("password"):
        raise ConfigurationError(
            f"--redis contains a password, which other users can read: give the address in {REDIS_VARIABLE} instead"
        )
    return client


def _read_entries(path: str) -> Iterator[dict[str, Any]]:
    """Yield the arguments of `revoke` from each line of a file. Raises `ConfigurationError`, with the line number."""
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
                f'{where}: expected {{"thumbprint": "...", "until": 1800000000}}, or token_id, issuer and until'
            )
        yield {**members, "until": _parse_time(f"{where}, until", members["until"])}


def _parse_time(name: str, given: object) -> datetime:
    """Parse seconds since 1970, or ISO 8601 with an offset. Raises `ConfigurationError`."""
    time = None
    with contextlib.suppress(ValueError, OverflowError, OSError):
        if isinstance(given, str) and not given.isdecimal():
            time = datetime.fromisoformat(given)
        elif isinstance(given, (str, int, float)) and not isinstance(given, bool):
            time = datetime.fromtimestamp(float(given), UTC)
    if time is None or time.tzinfo is None:
        raise ConfigurationError(f"{name} {given!r}: expected {_TIME_EXAMPLES}")
    return time
