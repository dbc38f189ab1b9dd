"""`ANYONE`: the value in `allow` for a path that needs no certificate."""

from collections.abc import Callable
from typing import NoReturn

from mtls_middleware.errors import ConfigurationError


class Anyone:
    """The type of `ANYONE`, which is the value in `allow` for a path that needs no certificate.

    `ANYONE` is not a rule: `ANYONE & rule`, `~ANYONE` and `allow=ANYONE` raise `ConfigurationError`.

    Example: `allow={"/": Subject("CN=ops,O=Acme"), "/public": ANYONE}`
    """

    __slots__ = ()

    def raise_error(self, *_: object) -> NoReturn:
        """Raises `ConfigurationError`, because `ANYONE` cannot be combined like a rule."""
        raise ConfigurationError(
            "ANYONE is not a rule: use it only as the value of a path in allow=, for example "
            "allow={'/': Subject('CN=ops,O=Acme'), '/public': ANYONE}"
        )

    __and__: Callable[..., NoReturn] = raise_error
    __or__: Callable[..., NoReturn] = raise_error
    __rand__: Callable[..., NoReturn] = raise_error
    __ror__: Callable[..., NoReturn] = raise_error
    __xor__: Callable[..., NoReturn] = raise_error
    __rxor__: Callable[..., NoReturn] = raise_error
    __invert__: Callable[..., NoReturn] = raise_error
    __bool__: Callable[..., NoReturn] = raise_error

    def __repr__(self) -> str:
        return "ANYONE"

    def __reduce__(self) -> str:
        return "ANYONE"  # if the result is the name of a global variable, `copy` and `pickle` return the object itself


ANYONE = Anyone()
