"""The few errors of the package, split by who is at fault: the configuration, the request, or a peer that is down.

Must never know: HTTP. Which status a code gets is `refusal.py`'s to say.
"""

from importlib.util import find_spec


class ConfigurationError(ValueError):
    """The layer, source, rule or validator was put together wrongly: raised at construction.

    The message says what was given, what is expected, and an example.
    """


class Refused(Exception):  # noqa: N818 (the contract's name)
    """A request that must not reach the application.

    `code` is one of the fixed codes of `refusal.ANSWERS`; the client is told nothing else. `evidence` is for the
    operator's log alone: short strings of the library, never a token, a key or a header value. `new_connection`: the
    client can get another decision only over a new connection, for example with a renewed certificate.
    """

    def __init__(self, code: str, *evidence: str, new_connection: bool = False) -> None:
        super().__init__(code, *evidence)
        self.code = code
        self.evidence = evidence
        self.new_connection = new_connection


class MalformedCertificate(Refused):
    """Bytes that claim to be a client certificate and cannot be read as exactly one (or as the names in it)."""

    def __init__(self, *evidence: str) -> None:
        super().__init__("invalid_client_certificate", *evidence)


class Unavailable(Refused):
    """Keys, introspection or revocation cannot be had now, and nothing valid is remembered.

    `retry_after`: seconds after which another attempt can succeed.
    """

    def __init__(self, *evidence: str, retry_after: int) -> None:
        super().__init__("temporarily_unavailable", *evidence)
        self.retry_after = retry_after


def require_extra(module: str, extra: str, what: str) -> None:
    """Raise `ConfigurationError` with the line to type where the optional dependency behind `what` is not installed."""
    if find_spec(module) is None:
        raise ConfigurationError(f"{what} needs an optional dependency: pip install 'mtls-middleware[{extra}]'")
