"""Imports the application that a command names as `MODULE:APP`."""

import sys
from importlib import import_module
from typing import Any

from mtls_middleware.errors import ConfigurationError


def load(name: str) -> Any:
    """Import and return the object that `name` (`MODULE:APP`) names. Raises `ConfigurationError` if this fails."""
    module, _, path = name.partition(":")
    sys.path.insert(0, "")  # add the current folder to the path, as servers do
    try:
        found = import_module(module)
        for attribute in path.split("."):
            found = getattr(found, attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigurationError(f"{name}: {error}; expected MODULE:APP, for example shop.wsgi:app") from error
    except Exception as error:  # a module may raise any exception when it is imported
        raise ConfigurationError(
            f"{name}: the import fails with {type(error).__name__}; run the command with the environment of the server"
        ) from error
    return found
