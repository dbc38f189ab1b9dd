"""Defines the I/O operations that a flow can yield, and the drivers that carry them out."""

from typing import TYPE_CHECKING

from mtls_middleware.lazy_exports import exports

if TYPE_CHECKING:
    from mtls_middleware.effects.exchange import Fetch, FetchFailed, Response
    from mtls_middleware.effects.flow import AwaitingDriver, Begin, BlockingDriver, Call, Flow, ask

__all__ = [
    "AwaitingDriver",
    "Begin",
    "BlockingDriver",
    "Call",
    "Fetch",
    "FetchFailed",
    "Flow",
    "Response",
    "ask",
]

if not TYPE_CHECKING:  # type checkers must not see `__getattr__`, or they would accept misspelt names
    __getattr__, __dir__ = exports(
        __name__,
        {
            "effects.exchange": ["Fetch", "FetchFailed", "Response"],
            "effects.flow": ["AwaitingDriver", "Begin", "BlockingDriver", "Call", "Flow", "ask"],
        },
    )
