"""The exceptions of the package: for a wrong configuration, a rejected request, or an unavailable server.

`responses.py` maps the codes of rejected requests to HTTP statuses.
"""

from importlib.util import find_spec


class ConfigurationError(ValueError):
    """The configuration of a layer, source, rule or validator is wrong. Raised at construction.

    The message says what was given, what is expected, and an example.
    """


class Refused(Exception):  # noqa: N818 (a public name)
    """A request must not reach the application.

    Attributes:
        code: one of the codes in `responses.RESPONSES`. The client gets no other information.
        evidence: messages for the operator's log. They never contain a token, a key or a header value.
        new_connection: whether the client needs a new connection to get another decision, for example to present a
            renewed certificate.
    """

    def __init__(self, code: str, *evidence: str, new_connection: bool = False) -> None:
        super().__init__(code, *evidence)
        self.code = code
        self.evidence = evidence
        self.new_connection = new_connection


class MalformedCertificate(Refused):
    """The client certificate, or a name in it, cannot be read, or the values that contain it are contradictory."""

    def __init__(self, *evidence: str) -> None:
        super().__init__("invalid_client_certificate", *evidence)


class Unavailable(Refused):
    """Keys, an introspection response or revocation data cannot be fetched now, and no valid copy is cached.

    `retry_after`: seconds, for the response's `Retry-After`.
    """

    def __init__(self, *evidence: str, retry_after: int) -> None:
        super().__init__("temporarily_unavailable", *evidence)
        self.retry_after = retry_after


def require_extra(module: str, extra: str, what: str) -> None:
    """Raises `ConfigurationError` if an optional dependency is not installed. The message has the command for pip."""
    if find_spec(module) is None:
        raise ConfigurationError(f"{what} needs an optional dependency: pip install 'mtls-middleware[{extra}]'")
