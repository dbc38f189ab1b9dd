"""The command `mtls-middleware revocations create|revoke|show`: manages the list of revoked tokens and certificates.

The command never prints any part of the Redis address, because the address may contain a password.
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

# The environment variable that contains the Redis address. A command-line argument would be visible to every user.
REDIS_VARIABLE = "MTLS_REVOCATIONS_REDIS"

_KEY = "mtls_middleware:revoked"  # the default key of RedisRevocations
_ADDRESS = "redis://revocations.internal:6379/0, rediss:// with TLS, or unix:///path"
_TIME_EXAMPLES = "2027-01-31T12:00:00Z, or seconds since 1970 as in exp"

_MEMBERS = {"thumbprint", "token_id", "issuer", "until"}


class _NotDone(Exception):  # noqa: N818 (a result, not an error)
    """Raised if an action with valid arguments is not carried out. The message gives the reason."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command `revocations` to `parser`."""
    parser.epilog = "Exit status 1: the command failed, or its result is unknown. It is safe to try again."
    parser.set_defaults(redis=None, key=_KEY, json=False)
    _common_options(parser)
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    create = actions.add_parser("create", help="create the list if there is none: at the start, or after Redis lost it")
    create.add_argument(
        "--revoked",
        metavar="FILE",
        help="the tokens and certificates that are already revoked: one JSON object a line, with until, and with "
        "thumbprint or with token_id and issuer; - reads standard input; default: an empty list",
    )
    revoke = actions.add_parser("revoke", help="revoke tokens and certificates; this cannot be undone")
    # A token id or thumbprint can begin with "-". argparse accepts such a value only after "=".
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
    for each in (create, revoke):
        each.add_argument(
            "--replicas",
            type=int,
            default=0,
            metavar="N",
            help="the number of replicas that must confirm the write, so that a failover does not lose it; default: 0",
        )
    for each in (create, revoke, show):
        _common_options(each)


def _common_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that are accepted both before and after the action.

    If `--redis` were accepted in one place only, argparse would print a misplaced address in its error message.
    """
    absent = argparse.SUPPRESS  # a default of the subcommand would replace a value that is given before the subcommand
    parser.add_argument(
        "--redis",
        default=absent,
        metavar="URL",
        help=f"{_ADDRESS}; default, and required for a password: the environment variable {REDIS_VARIABLE}",
    )
    parser.add_argument("--key", default=absent, help=f"the Redis key of the list; default: {_KEY}")
    parser.add_argument("--json", action="store_true", default=absent, help="print JSON")


def run(options: argparse.Namespace) -> int:
    """Run the action, and print its result. Return 1 if the action failed or its result is unknown, otherwise 0.

    Raises `ConfigurationError` for an invalid option.
    """
    # Imported here, so that the other commands work if the folder `revocation` is deleted.
    from mtls_middleware.revocation.redis_list import RedisRevocations

    replicas = getattr(options, "replicas", 0)  # only `create` and `revoke` have this option
    revocations = RedisRevocations(_client(options.redis), key=options.key, replicas=replicas)
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
    # If two processes find no list at the same time, the new list gets the entries of both processes.
    if revocations.look() is not None:
        raise _NotDone(f"a list already exists under {options.key!r}; use revoke to add entries")
    revocations.create(revoked)
    if not revoked:
        sys.stderr.write("the list is empty: what a lost list revoked is accepted until you revoke it again\n")
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
        raise _NotDone(f"the key {options.key!r} does not exist; run create, with your own records in --revoked")
    return {"entries": found.entries, "changes": found.changes}


_ACTIONS: dict[str, Callable[["RedisRevocations", argparse.Namespace], dict[str, int]]] = {
    "create": _create,
    "revoke": _revoke,
    "show": _show,
}


def _client(given: str | None) -> Any:
    """Return a Redis client for the address in the option or the environment variable.

    Raises `ConfigurationError`. Its message omits the error of the redis library, which may quote a password.
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
        # This call does not connect, but it raises an exception for invalid settings.
        client.connection_pool.make_connection()
    except Exception:  # noqa: BLE001 (any exception means an invalid address)
        settings = {}
    # The parameters of the URL can also set `retry`.
    if not {"host", "path"} & settings.keys() or settings.get("retry") is not retry:
        raise ConfigurationError(
            f"the address of Redis cannot be read: expected {_ADDRESS}; in user and password, write : / ? # @ % as %XX"
        )
    if given is not None and settings.get("password"):
        raise ConfigurationError(
            f"--redis contains a password, which other users can read: give the address in {REDIS_VARIABLE} instead"
        )
    return client


def _read_entries(path: str) -> Iterator[dict[str, Any]]:
    """Yield one entry to revoke for each line of a file. Raises `ConfigurationError`, with the number of the line."""
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
    """Parse seconds since 1970, or an ISO 8601 string with an offset.

    Raises `ConfigurationError` with `name` in its message.
    """
    time = None
    with contextlib.suppress(ValueError, OverflowError, OSError):
        if isinstance(given, str) and not given.isdecimal():
            time = datetime.fromisoformat(given)
        elif isinstance(given, (str, int, float)) and not isinstance(given, bool):
            time = datetime.fromtimestamp(float(given), UTC)
    if time is None or time.tzinfo is None:
        raise ConfigurationError(f"{name} {given!r}: expected {_TIME_EXAMPLES}")
    return time
