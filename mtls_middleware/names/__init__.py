"""Parses and compares the names in a client certificate: distinguished names, alternative names and SPIFFE IDs.

The modules of this package are imported when they are first used: many applications read no name of a certificate.
"""

from typing import TYPE_CHECKING

from mtls_middleware.lazy_exports import submodules

if TYPE_CHECKING:
    from mtls_middleware.names import alternative, attribute_types, distinguished, spiffe

__all__ = ["alternative", "attribute_types", "distinguished", "spiffe"]

if not TYPE_CHECKING:  # with `__getattr__`, a type checker would accept any misspelt name
    __getattr__ = submodules(__name__, __all__)
