"""`Attached`: the results of the layers for one request, and the keys under which they are in the environ or scope."""

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
# ASGI: the list of header fields as the server gave it. The list under "headers" is without certificates and secrets.
ORIGINAL_HEADERS_KEY = "mtls_middleware.original_headers"


class Passage:
    """The passage of one request through one gateway.

    Attributes:
        original: a copy of the scope or environ as the gateway got it; under ASGI its headers are a list.
        outer: what the next gateway outside attached, `None` for the outermost gateway.
        running: whether the application inside is running. If it is not, no other gateway is inside this one: a
            dispatcher tries another application with the same scope or environ.
        retried: whether another application was tried before with the same scope or environ.
        kept: ASGI: the list of headers that the gateway put into the scope.
        hidden: ASGI: the names of the fields that applications do not see.
    """

    original: dict[str, Any]
    outer: "Attached | None" = None
    running: bool = False
    retried: bool = False
    kept: object = None
    hidden: frozenset[str] = frozenset()


class Attached:
    """The results of the layers for one request. Each gateway creates one, and stores it under `ATTACHED_KEY`.

    An inner layer trusts only this object as proof that an outer layer ran. It ignores values under the public keys.

    Attributes:
        passage: the passage of the gateway that made this object.
        since: when the outermost layer got the request, in seconds since the epoch.
        has_certificate_layer: whether a certificate layer ran, whatever it found.
        certificate, token, client: what the layers found.
        presented: the certificate that the innermost certificate layer found, even if it rejects it. Only for the log.
        absence: if a certificate layer found none, a function that returns the reason, for the log of a rejection.
        root_path: the operator's statement, which a layer has written into the environ or scope.
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
    watch: Any = None  # its class is part of the ASGI gateway

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
    """Return a new object for this gateway. It starts with the results of outer gateways in the environ or scope.

    If `is_around` is false for a layer's passage, the layer is not an outer one: a dispatcher has called it, and now
    tries another application. The request is then decided again from what the server gave to the first application,
    except for `of_application`: the keys that say which resource the application serves, and how it reads the body.

    `is_same`: whether this is still the request of a passage, and not another request for which a server uses the same
    dictionary. Another request is decided from its own facts.
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
