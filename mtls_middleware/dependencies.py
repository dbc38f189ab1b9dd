"""Reports events that are not decisions: failures of key, introspection, CRL and OCSP servers, and expiring CRLs.

The code that detects an event also logs it. This module only calls observers, for metrics.
"""

import logging
from collections.abc import Callable
from typing import Literal

from mtls_middleware.observers import Observers

logger: logging.Logger = logging.getLogger("mtls_middleware.dependencies")

# The names are labels of metrics, so the set of names is fixed.
Event = Literal[
    "keys_failed",
    "introspection_failed",
    "revocation_list_failed",
    "revocation_list_ending",
    "ocsp_failed",
    "ocsp_ending",
]
Observer = Callable[[Event, str], None]

_observers: Observers[Event, str] = Observers(logger)


def observe(observer: Observer) -> Callable[[], None]:
    """Call `observer` with every event and its reason. Returns a function that unregisters it.

    The observer may run during a request, so it must be fast. An exception in it is logged, and changes nothing.

    Example: `stop = observe(lambda event, reason: print(event, reason))`
    """
    return _observers.add(observer)


def report(event: Event, reason: str) -> None:
    """Call the observers for an event. `reason`: a string without secrets and without data of a request."""
    _observers.tell(event, reason)
