"""Logs the events of the background threads. A log handler that raises an exception must not end a thread."""

import contextlib
import logging

logger: logging.Logger = logging.getLogger("mtls_middleware.exchanges")


def log(level: int, message: str, *arguments: object) -> None:
    """Log `message` with `arguments`. Nothing is raised if a handler fails.

    Example: `log(logging.ERROR, "%s stalls", url)`
    """
    with contextlib.suppress(Exception):
        logger.log(level, message, *arguments)
