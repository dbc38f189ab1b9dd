"""Logs the events of the background threads. A log handler that fails must not end a thread or a request."""

import contextlib
import logging

logger: logging.Logger = logging.getLogger("mtls_middleware.exchanges")


def log(level: int, message: str, *arguments: object, to: logging.Logger = logger) -> None:
    """Log `message` with `arguments`. An exception of a log handler is ignored, except for example `SystemExit`.

    Example: `log(logging.ERROR, "%s stalls", url)`
    """
    with contextlib.suppress(Exception):
        to.log(level, message, *arguments, stacklevel=2)
