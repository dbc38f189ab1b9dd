"""`DecisionCache`: the decisions of a stack about requests with equal facts. A reader may skip this file.

The cache only saves time: without it, every request is decided in the same way, by `Stack.decide`.

- A key contains every fact that the layers can read, because a layer sees only the facts that it declared. A token is
  part of the key as a digest. The peer is part of the key as the values from which a gateway computes it.
- An entry is used only while its time limits hold and its checks are true. The checks look up revocation, compare the
  binding, ask rules whose answer can change, and compare the identity of keys, trust stores and revocation lists with
  those that the decision was based on.
- If any check fails or raises, the layers decide again. So the cache never rejects a request, and it contains no
  rejected request.
"""

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any, Protocol

from mtls_middleware import options
from mtls_middleware.cache import Cache, CacheMemory
from mtls_middleware.certificate import ClientCertificate
from mtls_middleware.errors import Refused
from mtls_middleware.layers.attached import Attached
from mtls_middleware.layers.interface import Facts, FactsReader, Layer
from mtls_middleware.reusable import Check, Reusable

# Default maximum size in bytes of everything that one stack caches. It is enough for 10,000 clients with certificates
# and tokens of usual size.
CACHE_SIZE = 64 * 1024 * 1024
# Maximum size of a key in bytes. The header field of a certificate with a usual chain is smaller.
_LARGEST_KEY = 16_384
# Bytes that the objects of a usual entry need in addition to its key: the parsed certificate, the token, the claims.
_OBJECTS = 5_000


@dataclass(frozen=True, slots=True)
class _Entry:
    found: dict[str, Any]  # attributes of `Attached`
    begins: float
    ends: float
    checks: tuple[Check, ...]


class CachedRequest(Protocol):
    """The parts of a request that the cache reads and sets. Its facts are read by the `FactsReader`."""

    @property
    def attached(self) -> Attached: ...
    @property
    def now(self) -> float: ...

    cache_key: Hashable | None


class DecisionCache:
    """Caches the decisions of the first layers of a stack, up to the first layer that does not declare its facts.

    Arguments:
        layers: the layers of one gateway, the outermost first.
        reader: a function that takes facts, and returns a function that reads these facts from a request of the
            gateway.
    """

    def __init__(self, layers: tuple[Layer, ...], reader: Callable[[Facts], FactsReader]) -> None:
        self.names: tuple[str, ...] = ()
        declared = Facts()
        for layer in layers:
            if layer.facts is None:
                break
            declared |= layer.facts
            self.names += (layer.name,)
        self._read: FactsReader = reader(declared) if self.names else _nothing
        self._routed = tuple(layer for layer in layers[: len(self.names)] if layer.fixed_route is None)
        sizes = [layer.cache_size for layer in layers if layer.cache_size is not None]
        memory = CacheMemory(max(sizes, default=CACHE_SIZE))
        self._entries: Cache[Hashable, _Entry] = Cache(memory, largest=_LARGEST_KEY)
        self._to_share = [cache for layer in layers for cache in layer.caches]

    def recall(self, request: CachedRequest) -> bool:
        """Attach the cached decisions about this request. Returns `False` if no valid decisions are cached."""
        if self._to_share:  # with the first request: a gateway that another one absorbs gets no request
            self._share()
        attached, now = request.attached, request.now
        key: Hashable | None = self._read(request)
        if key is not None and (self._routed or attached.has_certificate_layer):
            key = self._with_context(key, request)
        request.cache_key = key
        entry = None if key is None else self._entries.get(key)
        if entry is None or not entry.begins <= now < entry.ends:
            return False
        try:
            for check in entry.checks:
                if not check(now):
                    return False
        except Exception:  # noqa: BLE001 (the decision that follows raises and handles the same exception)
            return False
        vars(attached).update(entry.found)
        return True

    def _with_context(self, facts: Hashable, request: Any) -> Hashable | None:
        """A key with what is known before these layers decide: the routes, and the results of outer gateways.

        `None` if the decisions must not be cached.
        """
        try:
            if any(layer.document(request) is not None for layer in self._routed):
                return None
            routes = tuple(layer.route(request) for layer in self._routed)
        except Refused:  # `Stack.decide` raises the exception in the order of the layers
            return None
        attached: Attached = request.attached
        if not attached.has_certificate_layer:
            return facts, routes
        certificate = attached.certificate
        if attached.token or attached.client or not _is_plain(certificate):
            return None
        return facts, routes, None if certificate is None else certificate.identity

    def _share(self) -> None:
        caches, self._to_share = self._to_share, []
        for cache in caches:
            cache.share(self._entries.memory)

    def store(self, key: Hashable, decided: list[Reusable[Any]]) -> None:
        """Cache the decisions of the first layers, if all of them are reusable."""
        common = Reusable(None).within(*decided)
        if common.begins < common.ends:
            attached = Attached()
            for name, each in zip(self.names, decided, strict=True):
                attached.set(name, each.value)
            extra = _OBJECTS + sum(each.cost for each in decided)
            entry = _Entry(vars(attached), common.begins, common.ends, common.checks)
            self._entries.put(key, entry, _size(key), extra=extra)


def _nothing(_request: Any) -> None:
    """Read no facts: the decisions of a stack are not cached if its first layer declares none."""


# Minimum size in bytes, except for 0. The user of a smaller number probably meant megabytes.
_LEAST = 65_536


def check_cache_size(size: int | None) -> int | None:
    """Check that `size` is `None`, 0, or a number of bytes, and return it. Raises `ConfigurationError`."""
    if size is not None and (size != 0 or isinstance(size, bool)):
        options.integer("cache_size", size, _LEAST, 2**40, CACHE_SIZE)
    return size


def _is_plain(certificate: ClientCertificate | None) -> bool:
    """Return whether `identity` contains all data of the certificate. An object of a subclass may have more data."""
    return certificate is None or type(certificate) is ClientCertificate


def _size(key: Hashable) -> int:
    size = 0
    for each in key if isinstance(key, tuple) else ():
        if isinstance(each, (str, bytes)):
            size += len(each)
        elif isinstance(each, tuple):
            size += _size(each)
    return size
