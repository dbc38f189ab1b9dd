"""`Attached`: the results of the layers for one request, and the keys in the environ or scope that contain them."""

from collections.abc import Callable, Collection, Mapping, MutableMapping
from typing import TYPE_CHECKING, Any

from mtls_middleware.certificate import ClientCertificate

if TYPE_CHECKING:
    from mtls_middleware.resource_server.token import AccessToken
    from mtls_middleware.sources.source import Absence
    from mtls_middleware.token_endpoint.clients import RegisteredClient  # few applications are token endpoints

# The keys in environ and scope. The layers always set all of them, so no value from outside survives.
CERTIFICATE_KEY = "mtls_middleware.certificate"
TOKEN_KEY = "mtls_middleware.token"  # noqa: S105 (the name of a key)
CLIENT_KEY = "mtls_middleware.client"
ATTACHED_KEY = "mtls_middleware.attached"
# ASGI only: the list of header fields as the server gave it. The list under "headers" has no certificates and secrets.
ORIGINAL_HEADERS_KEY = "mtls_middleware.original_headers"


class Passage:
    """The passage of one request through one gateway.

    Attributes:
        original: a copy of the scope or environ as the gateway got it; under ASGI its headers are a list.
        outer: the `Attached` object of the next outer gateway; `None` for the outermost gateway.
        running: whether the application of this gateway is running. If it is not running, this gateway is not outside
            of any other gateway: a dispatcher is trying another application with the same scope or environ.
        retried: whether a dispatcher has tried another application with the same scope or environ before.
        kept: ASGI only: the list of headers that the gateway put into the scope.
        hidden: ASGI only: the names of the fields that applications do not see.
    """

    original: dict[str, Any]
    outer: "Attached | None" = None
    running: bool = False
    retried: bool = False
    kept: object = None
    hidden: frozenset[str] = frozenset()


class Attached:
    """The results of the layers for one request. Each gateway creates one object, and stores it under `ATTACHED_KEY`.

    An inner layer trusts only this object as proof that an outer layer ran. It ignores values under the public keys.

    Attributes:
        passage: the `Passage` of this request through the gateway that made this object.
        since: when the outermost layer got the request, in seconds since the epoch.
        has_certificate_layer: whether a certificate layer ran, even if it found no certificate.
        certificate, token, client: the objects that the layers accepted; `None` without such an object.
        presented: the certificate that the innermost certificate layer found, even if the layer rejects it. Only for
            the log.
        absence: if a certificate layer found no certificate, a function that returns the reason, for the log of a
            rejection.
        root_path: the argument `root_path=` of a layer, which the layer has written into the environ or scope.
        cached: whether every decision of this request came from the decision cache.
        watch: the `WebsocketWatch` of the outermost gateway that has one.
    """

    passage: Passage
    since: float = 0.0
    has_certificate_layer: bool = False
    certificate: ClientCertificate | None = None
    token: "AccessToken | None" = None
    client: "RegisteredClient | None" = None
    presented: ClientCertificate | None = None
    absence: "Callable[[], Absence | None] | None" = None
    root_path: str | None = None
    cached: bool = False
    watch: Any = None  # an `Any`, because the class `WebsocketWatch` is part of the ASGI gateway

    def set(self, name: str, found: Any) -> None:
        """Set the result of the layer with this name."""
        setattr(self, name, found)
        if name == "certificate":
            self.has_certificate_layer = True


def attached_to(
    carrier: Mapping[str, Any],
    now: float,
    of_application: Collection[str],
    is_same: Callable[[Passage, Mapping[str, Any]], bool],
    is_around: Callable[[Passage], bool],
) -> Attached:
    """Return a new object for this gateway.

    It starts with the results of the outer gateways, from the environ or scope.

    If `is_around` is false for the passage of another gateway, that gateway is not an outer gateway: a dispatcher has
    called it before, and is now trying another application. The request is then decided again from what the server gave
    to the first application, except for `of_application`: the keys that determine which resource the application
    serves, and how it reads the body.

    `is_same`: a function that returns whether the request is still that of a passage. A server may use the same
    dictionary for a later request, which must be decided by its own data.
    """
    attached, outer = Attached(), carrier.get(ATTACHED_KEY)
    attached.passage = passage = Passage()
    if not isinstance(outer, Attached):
        attached.since = now
        passage.original = dict(carrier)
        return attached
    original: dict[str, Any] | None = None
    hidden: frozenset[str] = frozenset()
    found: Attached | None = outer
    same = not is_around(outer.passage) and is_same(outer.passage, carrier)
    while found is not None and not is_around(found.passage):
        original = found.passage.original if same else None
        hidden |= found.passage.hidden
        found = found.passage.outer
    passage.outer, passage.hidden, passage.retried = found, hidden, original is not None
    if original is None:
        passage.original = dict(carrier)
    else:
        passage.original = {**original, **{key: carrier[key] for key in of_application if key in carrier}}
    if found is None:
        attached.since = now
    else:
        vars(attached).update({**vars(found), "passage": passage, "cached": False})
    return attached


def attach(carrier: MutableMapping[str, Any], attached: Attached) -> None:
    """Set every key of the layers, so that no value of the client or the server remains under these keys."""
    carrier[ATTACHED_KEY] = attached
    carrier[CERTIFICATE_KEY] = attached.certificate
    carrier[TOKEN_KEY] = attached.token
    carrier[CLIENT_KEY] = attached.client
