"""Checks the names of header fields in the configuration, and reads single values."""

from collections.abc import Sequence
from typing import TypeVar

from mtls_middleware.errors import ConfigurationError, MalformedCertificate

T = TypeVar("T")


def single_value(values: Sequence[str], what: str) -> str | None:
    """Return the value of a field, or `None` if the field is absent. `what`: the field's name, for the message.

    Raises `MalformedCertificate` if there are several field lines.
    """
    if len(values) > 1:  # proxies differ: some use the first line, some use the last line, and some join the lines
        raise MalformedCertificate(f"{what}: {len(values)} field lines; expected one")
    return values[0] if values else None


def name_or_default(name: str | None, default: T) -> str | T:
    # An empty string, for example from an unset variable, is not replaced by the default, so it causes an error later.
    return default if name is None else name


def field_name(name: str) -> str:
    if not (isinstance(name, str) and name.isascii() and name.replace("-", "").isalnum()):
        raise ConfigurationError(
            f"{name!r} is not a valid header name here: expected letters, digits and hyphens, for example "
            "'X-SSL-Client-Cert'"
        )
    return name.lower()


def is_foldable(name: str) -> bool:
    """Return whether a server can create this name by folding another name.

    Some servers convert an underscore to a hyphen (RFC 3875 4.1.18). Python's `str.upper` converts the latin-1 letter
    sharp s to SS.
    """
    return "-" in name or "ss" in name


def optional_field_name(name: str | None) -> str | None:
    return None if name is None else field_name(name)
