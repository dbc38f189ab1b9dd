"""Defines the exceptions of the package: for a wrong configuration, a rejected request, and an unavailable server.

`responses.py` maps the codes of rejected requests to HTTP statuses.
"""

from collections.abc import Mapping
from importlib.util import find_spec

# The `evidence` in the log if a request is rejected because it has no client certificate.
NO_CERTIFICATE = "no client certificate"


class ConfigurationError(ValueError):
    """Raised at construction if the configuration of a layer, source, rule or validator is wrong.

    The message contains the value that was given, what is expected, and an example.

    Example:
        >>> from mtls_middleware.policy import DNSName
        >>> DNSName("*.acme.internal")
        Traceback (most recent call last):
        mtls_middleware.errors.ConfigurationError: DNSName('*.acme.internal'): expected a name without wildcard ...
    """


class Refused(Exception):  # noqa: N818 (a public name)
    """Raised to reject a request, so that it does not reach the application.

    Attributes:
        code: one of the codes in `responses.RESPONSES`. The client gets no other information.
        evidence: messages for the operator's log. They never contain a token, a key or a header value.
        new_connection: whether the client must open a new connection before a request can be accepted, for example to
            present a renewed certificate.
        advice: what the operator can change, for the log; `None` if only the client can change something. The text is
            the same for each rejection with the same cause: it contains no data of the request.
        found, expected: what the request has and what it needs, by the name of a claim or header parameter such as
            `"aud"`, or `"thumbprint"`.

    Example:
        >>> refusal = Refused("invalid_token", "the token is not in our table")
        >>> refusal.code, refusal.evidence
        ('invalid_token', ('the token is not in our table',))
    """

    def __init__(
        self,
        code: str,
        *evidence: str,
        new_connection: bool = False,
        advice: str | None = None,
        found: Mapping[str, object] | None = None,
        expected: Mapping[str, object] | None = None,
    ) -> None:
        super().__init__(code, *evidence)
        self.code = code
        self.evidence = evidence
        self.new_connection = new_connection
        self.advice = advice
        self.found: Mapping[str, object] = found or {}
        self.expected: Mapping[str, object] = expected or {}

    def changed(
        self,
        *evidence: str,
        code: str | None = None,
        advice: str | None = None,
        found: Mapping[str, object] | None = None,
    ) -> "Refused":
        """Return this rejection with other evidence, and with another code or advice if one is given.

        `found`: more members of the attribute `found`.

        Example: `refusal.changed("the proxy's own certificate", *refusal.evidence)`
        """
        return Refused(
            self.code if code is None else code,
            *evidence,
            new_connection=self.new_connection,
            advice=self.advice if advice is None else advice,
            found={**self.found, **(found or {})},
            expected=self.expected,
        )


class MalformedCertificate(Refused):
    """Raised if a client certificate or a name in it is unreadable, or if values in a request contradict each other."""

    def __init__(self, *evidence: str, advice: str | None = None) -> None:
        super().__init__("invalid_client_certificate", *evidence, advice=advice)


class Unavailable(Refused):
    """Raised if keys, an introspection response or revocation data cannot be fetched, and no valid copy is cached.

    `retry_after`: the number of seconds in the `Retry-After` field of the response.
    """

    def __init__(self, *evidence: str, retry_after: int) -> None:
        super().__init__("temporarily_unavailable", *evidence)
        self.retry_after = retry_after


def require_extra(module: str, extra: str, what: str) -> None:
    """Raises `ConfigurationError` if the module of an optional dependency is not installed.

    The message contains the pip command that installs `extra`. `what`: the object that needs the dependency.
    """
    if find_spec(module) is None:
        raise ConfigurationError(f"{what} needs an optional dependency: pip install 'mtls-middleware[{extra}]'")
