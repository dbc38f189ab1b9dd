"""The exported names of a package, which imports each of them when it is first used."""

from types import ModuleType
from typing import Any


def exported(package: ModuleType) -> dict[str, Any]:
    return {name: getattr(package, name) for name in package.__all__}
