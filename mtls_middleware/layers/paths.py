"""Which rule applies to a path, and which paths are exempt.

A path that an application could read as another one is rejected. This module does not know how an application routes.
"""

import re
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

from mtls_middleware.certificate import ClientCertificate
from mtls_middleware.errors import ConfigurationError, Refused
from mtls_middleware.path_readings import BLANK, one_answer
from mtls_middleware.policy.rule import Anyone, Rule, as_rule
from mtls_middleware.request import RequestView

# What frameworks, servers or file systems may fold, cut or decode once more.
_AMBIGUOUS = re.compile(r"//|/\.{1,2}(?:/|\Z)|[\\;%?#\x00-\x20\x7f-\x9f]")
# The wildcards of shells and frameworks: "/users/*", "/users/{id}", "/users/<id>". None of them matches here.
_WILDCARD = re.compile(r"[*?]|\{.*\}|<.*>|\[.*\]")
_BELOW = "/*"

OneRule = Rule | Callable[[ClientCertificate], bool]
Allow = OneRule | Mapping[str, OneRule | Anyone]


class PathRules:
    """The rule of the longest path that is a request's own, or above it.

    `given`: one rule for all, or a mapping of path to rule. A path holds for itself and what is below it: `"/admin"`
    for `/admin` and `/admin/users`, not for `/administrator`, nor for `/Admin`. `"/"` must be there, so that nothing is
    without a rule. Raises `ConfigurationError`.

    Example: `PathRules({"/admin": Subject("CN=ops,O=Acme"), "/": SpiffeTrustDomain("acme.internal")})`
    """

    def __init__(self, given: Allow) -> None:
        self.is_mapping: bool = isinstance(given, Mapping)
        if not isinstance(given, Mapping):
            given = {"/": given}
        for path in given:
            if not is_plain(path):
                raise ConfigurationError(
                    f"allow: {path!r} is not a plain path; expected for example '/admin', which applies to '/admin' "
                    "and to all paths below it: no wildcard, and no slash at the end"
                )
        if "/" not in given:
            raise ConfigurationError("allow names no rule for '/', and so none for what is not under the other paths")
        rules = [rule if self.is_mapping and isinstance(rule, Anyone) else as_rule(rule) for rule in given.values()]
        self.rules: tuple[Rule | Anyone, ...] = tuple(rules)
        # By identity: one rule may be the rule of several paths, and `==` between rules belongs to the user.
        first = {id(rule): position for position, rule in reversed(list(enumerate(rules)))}
        self._positions = {path: first[id(rule)] for path, rule in zip(given, rules, strict=True)}
        self._longest = max(map(len, self._positions))

    def position(self, request: RequestView) -> int:
        """The position in `rules` of the rule for this request.

        Raises `Refused` for a path that an application may read as a path with another rule.
        """
        if self.is_single:
            return 0
        found = one_answer(request.location, self._position_or_none)
        return self._position_of(request.location.path) if found is None else found

    def _position_or_none(self, path: str) -> int | None:
        try:
            return self._positions["/"] if path == BLANK else self._position_of(path)
        except Refused:
            return None

    def of(self, path: str) -> Rule | Anyone:
        """The rule for a request's decoded path. Raises `Refused` for a path that could be read as another path."""
        return self.rules[self._position_of(path)]

    def _position_of(self, path: str) -> int:
        if self.is_single:
            return 0
        if not path.startswith("/") or _AMBIGUOUS.search(path):
            raise Refused(
                "client_certificate_refused", "applications read this path differently, and allow= has rules for paths"
            )
        # Only as much of the path as the longest path of a rule: a long path has thousands of paths above it.
        above = f"{path.rstrip('/')}/"[: self._longest + 1].rpartition("/")[0]
        while above:
            if above in self._positions:
                return self._positions[above]
            above = above.rpartition("/")[0]
        return self._positions["/"]

    @property
    def is_single(self) -> bool:
        """Whether one rule applies to every path."""
        return len(self.rules) == 1

    @property
    def depends_only_on_certificate(self) -> bool:
        """Whether the same certificate gets the same answer for ever, whatever the path."""
        return self.is_single and isinstance(self.rules[0], Rule) and self.rules[0].depends_only_on_certificate

    @property
    def may_accept_presented(self) -> bool:
        """Whether a certificate that is only presented can satisfy a rule. `ANYONE` is not a rule over certificates."""
        rules = [rule for rule in self.rules if isinstance(rule, Rule)]
        return not rules or any(rule.may_accept_presented for rule in rules)

    def __repr__(self) -> str:
        if self.is_single:
            return repr(self.rules[0])
        return repr({path: self.rules[position] for path, position in self._positions.items()})


class PathSet:
    """Exact decoded paths; if `below`, an entry that ends in `/*` covers the paths below it. `name`: the argument.

    `"/static/*"` covers `/static/a` and `/static/a/b`, but not `/static`, `/static/` or `/staticx`. Under such an
    entry, a path that an application may read as another one (`//`, `/../`, `;`, `%`) is not covered.

    Raises `ConfigurationError`.

    Example: `PathSet("exempt", ["/health", "/static/*"], below=True)`
    """

    def __init__(self, name: str, given: Collection[str], *, below: bool = False) -> None:
        entries = collection(name, given, '"/health"')
        self._exact = frozenset(entry for entry in entries if not (below and entry.endswith(_BELOW)))
        prefixes = [entry.removesuffix(_BELOW) for entry in entries - self._exact]
        bad = [entry for entry in self._exact if not entry.startswith("/") or _WILDCARD.search(entry)]
        bad += [f"{prefix}{_BELOW}" for prefix in prefixes if prefix and (prefix == "/" or not is_plain(prefix))]
        if bad:
            raise ConfigurationError(
                f"{name}: {bad[0]!r}; expected a decoded path that begins with a slash and has no wildcard, for "
                "example '/health'" + (", or a path with '/*' at its end for the paths below it" if below else "")
            )
        self._below = tuple(f"{prefix}/" for prefix in prefixes)

    def __bool__(self) -> bool:
        return bool(self._exact or self._below)

    def covers(self, view: RequestView) -> bool:
        """Whether the request's path is one of them. Raises `Refused` if that depends on the reading of the path."""
        return bool(self) and one_answer(view.location, self._has)

    def _has(self, path: str) -> bool:
        if path in self._exact:
            return True
        # Falcon and Litestar read "/static/" as "/static", which is not below "/static".
        return bool(self._below) and path.startswith(self._below) and self._is_below(path)

    def _is_below(self, path: str) -> bool:
        return not _AMBIGUOUS.search(path) and path.rstrip("/").startswith(self._below)


def collection(name: str, given: Collection[Any], example: str) -> frozenset[Any]:
    """A collection of strings as a set. A single string is rejected: it would be a collection of letters."""
    # An iterator could be read once only: by the check itself, and then nothing would be demanded.
    wrong_kind = isinstance(given, (str, bytes)) or not isinstance(given, Collection)
    if wrong_kind or not all(isinstance(each, str) for each in given):
        raise ConfigurationError(f"{name}={given!r}: a list of strings, for example [{example}]")
    return frozenset(given)


def is_plain(path: object) -> bool:
    """Whether this is a path that every framework reads alike, without wildcards and without a slash at its end."""
    if not isinstance(path, str) or not path.startswith("/") or _AMBIGUOUS.search(path) or _WILDCARD.search(path):
        return False
    return path == "/" or not path.endswith("/")


def checked_root(root_path: str | None) -> str | None:
    """The argument `root_path=`. Raises `ConfigurationError`."""
    if root_path is None or root_path == "":
        return root_path
    if root_path == "/" or not is_plain(root_path):
        raise ConfigurationError(
            f"root_path={root_path!r}: expected a decoded path that begins with a slash and does not end with one, for "
            "example '/api', or '' for an application that is not mounted"
        )
    return root_path


def one_root(stated: Iterable[str | None]) -> str | None:
    """The one `root_path=` of the layers of a gateway. Raises `ConfigurationError` if there are two."""
    roots = {each for each in stated if each is not None}
    if len(roots) > 1:
        raise ConfigurationError(
            f"the layers around one application have different root_path={sorted(roots)}: give all of them the same"
        )
    return roots.pop() if roots else None
