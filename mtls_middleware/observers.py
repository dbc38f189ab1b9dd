"""`Observers`: the functions that an operator registers for events in this process."""

import logging
from collections.abc import Callable
from typing import Generic, ParamSpec

P = ParamSpec("P")


class Observers(Generic[P]):
    """A list of functions. If a function raises an exception, `logger` logs it, and nothing else changes."""

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger
        self.functions: list[Callable[P, object]] = []

    def add(self, function: Callable[P, object]) -> Callable[[], None]:
        """Call `function` from now on. Returns a function that unregisters it.

        Example: `stop = observers.add(print)`
        """
        self.functions.append(function)
        return lambda: self.functions.remove(function)

    def tell(self, *arguments: P.args, **keywords: P.kwargs) -> None:
        """Call every function with these arguments. Example: `observers.tell(record)`"""
        for function in tuple(self.functions):  # iterate over a copy, because a function may remove another function
            try:
                function(*arguments, **keywords)
            except Exception as error:  # noqa: BLE001 (an observer cannot change a decision)
                self._logger.error("an observer failed: %s", type(error).__name__)
