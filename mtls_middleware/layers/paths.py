"""Finds the rule for a path, and decides which paths are exempt.

A path is rejected if applications may read it as different paths, and different rules apply to those paths.
"""

import re
from collections.abc import Callable, Collection, Iterable, Mapping

from mtls_middleware import options
from mtls_middleware.anyone import Anyone
from mtls_middleware.certificate import ClientCertificate
from mtls_middleware.errors import ConfigurationError, Refused
from mtls_middleware.path_readings import BLANK, same_for_all_readings
from mtls_middleware.request import RequestView
from mtls_middleware.rule import Rule, as_rule

# Matches sequences that frameworks, servers or file systems may normalise, cut off or decode again.
_AMBIGUOUS = re.compile(r"//|/\.{1,2}(?:/|\Z)|[\\;%?#\x00-\x20\x7f-\x9f]")
# The wildcards of shells and frameworks, such as "/users/*", "/users/{id}" and "/users/<id>". They are rejected.
_WILDCARD = re.compile(r"[*?]|\{.*\}|<.*>|\[.*\]")
_BELOW = "/*"

OneRule = Rule | Callable[[ClientCertificate], bool]
Allow = OneRule | Mapping[str, OneRule | Anyone]


class PathRules:
    """Finds the rule for a request's path. The longest matching path decides.

    `allow`: one rule for all paths, or a mapping of path to rule. A path applies to itself and to the paths below it:
    `"/admin"` applies to `/admin` and `/admin/users`, but not to `/administrator` or `/Admin`. The mapping must contain
    `"/"`, so that every path has a rule. Raises `ConfigurationError`.

    Example: `PathRules({"/admin": Subject("CN=ops,O=Acme"), "/": SpiffeTrustDomain("acme.internal")})`
    """

    def __init__(self, allow: Allow) -> None:
        self.is_mapping: bool = isinstance(allow, Mapping)
        if not isinstance(allow, Mapping):
            allow = {"/": allow}
        for path in allow:
            if not is_plain(path):
                raise ConfigurationError(
                    f"allow: {path!r} is not a plain path; expected a path such as '/admin', which applies to '/admin' "
                    "and to all paths below it: no wildcard, and no slash at the end"
                )
        if "/" not in allow:
            raise ConfigurationError(
                "allow has no rule for '/'; expected a rule for '/', which applies to all paths without another rule"
            )
        rules = [rule if self.is_mapping and isinstance(rule, Anyone) else as_rule(rule) for rule in allow.values()]
        self.rules: tuple[Rule | Anyone, ...] = tuple(rules)
        # Several paths may have the same rule. Rules are compared by identity, because users may define `==`.
        first = {id(rule): position for position, rule in reversed(list(enumerate(rules)))}
        self._positions = {path: first[id(rule)] for path, rule in zip(allow, rules, strict=True)}
        self._longest = max(map(len, self._positions))

    def position(self, request: RequestView) -> int:
        """Return the position in `rules` of the rule for this request.

        Raises `Refused` if an application may read the path as a different path, to which a different rule applies.
        """
        if self.is_single:
            return 0
        position = same_for_all_readings(request.location, self._position_or_none)
        return self._position_of(request.location.path) if position is None else position

    def _position_or_none(self, path: str) -> int | None:
        try:
            return self._positions["/"] if path == BLANK else self._position_of(path)
        except Refused:
            return None

    def of(self, path: str) -> Rule | Anyone:
        """Return the rule for a request's decoded path.

        Raises `Refused` if applications may read the path as a different path.
        """
        return self.rules[self._position_of(path)]

    def _position_of(self, path: str) -> int:
        if self.is_single:
            return 0
        if not path.startswith("/") or _AMBIGUOUS.search(path):
            raise Refused(
                "client_certificate_refused",
                "the path has // or another sequence that applications read differently, and allow= has several rules",
            )
        # To limit the cost, only the beginning is examined, up to the length of the longest path with a rule.
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
        """Whether the decision about a certificate never changes, and does not depend on the path."""
        return self.is_single and isinstance(self.rules[0], Rule) and self.rules[0].depends_only_on_certificate

    @property
    def needs_path(self) -> bool:
        """Whether one of the rules reads the validated path."""
        return any(isinstance(rule, Rule) and rule.needs_path for rule in self.rules)

    @property
    def may_accept_presented(self) -> bool:
        """Whether an unverified certificate can satisfy one of the rules. `ANYONE` does not count as a rule."""
        rules = [rule for rule in self.rules if isinstance(rule, Rule)]
        return not rules or any(rule.may_accept_presented for rule in rules)

    def __repr__(self) -> str:
        if self.is_single:
            return repr(self.rules[0])
        return repr({path: self.rules[position] for path, position in self._positions.items()})


class PathSet:
    """A set of exact decoded paths.

    Arguments:
        name: the name of the argument, for error messages.
        entries: the paths.
        below: whether an entry may end in `/*` and then covers the paths below it. `"/static/*"` covers `/static/a` and
            `/static/a/b`, but not `/static`, `/static/` or `/staticx`, and no path that an application may read as
            a different path (`//`, `/../`, `;`, `%`).

    Raises `ConfigurationError` if an argument is invalid.

    Example: `PathSet("exempt", ["/health", "/static/*"], below=True)`
    """

    def __init__(self, name: str, entries: Collection[str], *, below: bool = False) -> None:
        paths = options.strings(name, entries, '"/health"')
        self._exact = frozenset(path for path in paths if not (below and path.endswith(_BELOW)))
        prefixes = [path.removesuffix(_BELOW) for path in paths - self._exact]
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
        """Return whether the set covers the request's path.

        Raises `Refused` if this depends on how the application reads the path.
        """
        return bool(self) and same_for_all_readings(view.location, self._covers_path)

    def _covers_path(self, path: str) -> bool:
        if path in self._exact:
            return True
        # Falcon and Litestar read "/static/" as "/static", which is not below "/static".
        return bool(self._below) and path.startswith(self._below) and self._is_below(path)

    def _is_below(self, path: str) -> bool:
        return not _AMBIGUOUS.search(path) and path.rstrip("/").startswith(self._below)


def is_plain(path: object) -> bool:
    """Return whether every framework reads this path in the same way, and it has no wildcard and no final slash."""
    if not isinstance(path, str) or not path.startswith("/") or _AMBIGUOUS.search(path) or _WILDCARD.search(path):
        return False
    return path == "/" or not path.endswith("/")


def checked_root(root_path: str | None) -> str | None:
    """Check the argument `root_path=`, and return it. Raises `ConfigurationError`."""
    if root_path is None or root_path == "":
        return root_path
    if root_path == "/" or not is_plain(root_path):
        raise ConfigurationError(
            f"root_path={root_path!r}: expected a decoded path that begins with a slash and does not end with one, for "
            "example '/api', or '' for an application that is not mounted"
        )
    return root_path


def one_root(root_paths: Iterable[str | None]) -> str | None:
    """Return the `root_path=` of all layers of a gateway.

    Raises `ConfigurationError` if the layers have different values.
    """
    roots = {root for root in root_paths if root is not None}
    if len(roots) > 1:
        raise ConfigurationError(
            f"the layers around one application have different root_path={sorted(roots)}; expected the same value"
        )
    return roots.pop() if roots else None
