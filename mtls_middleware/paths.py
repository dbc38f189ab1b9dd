"""Which rule a path falls under, where `allow` names one for each part of an application.

Must never know: certificates, or how an application routes. So a path that an application could read as another one is
refused, rather than judged by the rule of the part that it only seems to be in.
"""

import re
from collections.abc import Callable, Mapping

from mtls_middleware.certificate import ClientCertificate
from mtls_middleware.errors import ConfigurationError, Refused
from mtls_middleware.policy.rule import Remembering, Rule, as_rule
from mtls_middleware.request import RequestView

# What frameworks, servers or file systems may fold, cut or decode once more (case 148).
_AMBIGUOUS = re.compile(r"//|/\.{1,2}(?:/|\Z)|[\\;%?#\x00-\x20\x7f-\x9f]")

OneRule = Rule | Callable[[ClientCertificate], bool]
Allow = OneRule | Mapping[str, OneRule]


class PathRules:
    """The rule of the longest path that is a request's own, or above it.

    `given`: one rule for all, or a mapping of path to rule. A path holds for itself and what is below it: `"/admin"`
    for `/admin` and `/admin/users`, not for `/administrator`, nor for `/Admin`. `"/"` must be there, so that nothing is
    without a rule. Raises `ConfigurationError`.

    Example: `PathRules({"/admin": Subject("CN=ops,O=Acme"), "/": SpiffeTrustDomain("acme.internal")})`
    """

    def __init__(self, given: Allow) -> None:
        if not isinstance(given, Mapping):
            given = {"/": given}
        for path in given:
            if not _is_plain(path):
                raise ConfigurationError(
                    f"allow: {path!r} is no path; for example '/admin', beginning with a slash and not ending with one"
                )
        if "/" not in given:
            raise ConfigurationError("allow names no rule for '/', and so none for what is not under the other paths")
        self._rules = {path: as_rule(rule) for path, rule in given.items()}
        self._only = self._rules["/"] if len(self._rules) == 1 else None
        self._longest = max(map(len, self._rules))
        self._judges = {id(rule): Remembering(rule) for rule in self._rules.values()}

    def judge(self, view: RequestView, certificate: ClientCertificate) -> None:
        """Raises `Refused` where the rule for this request does not allow the certificate."""
        rule = self._only if self._only is not None else self.of(view.path)
        if not self._judges[id(rule)](certificate):
            raise Refused("client_certificate_refused", f"{certificate.thumbprint} is not allowed by {rule!r}")

    def of(self, path: str) -> Rule:
        """The rule for a request's decoded path. Raises `Refused` for a path that could be read as another."""
        if self._only is not None:
            return self._only
        if not path.startswith("/") or _AMBIGUOUS.search(path):
            raise Refused("client_certificate_refused", "a path that may be read as another, where allow goes by paths")
        # No longer than a rule's: a long path has thousands of others above it.
        above = f"{path.rstrip('/')}/"[: self._longest + 1].rpartition("/")[0]
        while above:
            if above in self._rules:
                return self._rules[above]
            above = above.rpartition("/")[0]
        return self._rules["/"]

    @property
    def is_lasting(self) -> bool:
        """Whether the same certificate gets the same answer for ever, whatever the path."""
        return self._only is not None and self._only.is_lasting

    @property
    def may_accept_presented(self) -> bool:
        """Whether there is a part that a merely presented certificate may get into."""
        return any(rule.may_accept_presented for rule in self._rules.values())

    def __repr__(self) -> str:
        return repr(self._only if self._only is not None else self._rules)


def _is_plain(path: object) -> bool:
    if not isinstance(path, str) or not path.startswith("/") or _AMBIGUOUS.search(path):
        return False
    return path == "/" or not path.endswith("/")
