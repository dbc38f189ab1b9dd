"""Reads the setting `MTLS_MIDDLEWARE`: the layers of the project, and which certificate identifies which user."""

import inspect
from collections.abc import Mapping
from typing import Any

from django.conf import settings

from mtls_middleware import wsgi
from mtls_middleware.errors import ConfigurationError
from mtls_middleware.integrations.certificate_user import CertificateUser
from mtls_middleware.layers.interface import Layer

SETTING = "MTLS_MIDDLEWARE"
_USER = "user"
# Keywords that the setting cannot have: Django determines the root path itself (`FORCE_SCRIPT_NAME`).
_NOT_OURS = frozenset({"app", "root_path"})
NAMES: frozenset[str] = (frozenset(inspect.signature(wsgi.protect).parameters) - _NOT_OURS) | {_USER}

_EXAMPLE = (
    f'{SETTING} = {{"source": Nginx(...), "trust_store": TrustStore([BASE_DIR / "clients-ca.pem"]), "required": False}}'
)


def configured() -> Mapping[str, Any]:
    """Return the setting. Raises `ConfigurationError` if it is absent, is not a dictionary, or has an unknown key.

    Example: `configured()["source"]`
    """
    found = getattr(settings, SETTING, None)
    if not isinstance(found, Mapping) or "source" not in found:
        given = "not set" if found is None else f"a {type(found).__name__} without source"
        raise ConfigurationError(f"the setting {SETTING} is {given}; expected a dictionary, for example {_EXAMPLE}")
    if unknown := sorted(map(str, found.keys() - NAMES)):
        if "root_path" in unknown:
            raise ConfigurationError(
                f"{SETTING} has root_path: omit it, because Django itself finds the path; use FORCE_SCRIPT_NAME"
            )
        raise ConfigurationError(f"{SETTING} has unknown keys {unknown!r}; expected some of {sorted(NAMES)!r}")
    return found


def configured_layers() -> tuple[Layer, ...]:
    """Return the layers of the setting, the outermost first. Raises `ConfigurationError`, like `protect`.

    Example: `configured_layers()[0].name` is `"certificate"`
    """
    arguments = {name: value for name, value in configured().items() if name != _USER}
    return wsgi.protect(_no_application, **arguments).layers


def configured_user() -> CertificateUser[Any]:
    """Return the `CertificateUser` of the setting. Raises `ConfigurationError` if the setting has no `"user"`.

    Example: `configured_user().identify(certificate)`
    """
    found = configured().get(_USER)
    if not isinstance(found, CertificateUser):
        raise ConfigurationError(
            f'{SETTING} has the user {found!r}; expected a CertificateUser, for example "user": '
            'CertificateUser(by=UserPrincipalName(), issued_by=BASE_DIR / "staff-ca.pem")'
        )
    return found


def _no_application(_environ: object, _start_response: object) -> list[bytes]:
    """A placeholder for the application that the layers wrap.

    The layers never call it: the middleware calls the project.
    """
    return []
