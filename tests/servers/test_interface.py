"""What adapters take from servers: it is tried when it is named, and its absence is told with the line to type."""

from typing import Any

import pytest

from mtls_middleware import ConfigurationError
from mtls_middleware.servers.interface import names_used, require_attributes, require_methods, server_interface


def take(probe: Any = lambda _: None, *, needs: tuple[str, ...] = ("json",), name: str = "JSONEncoder") -> Any:
    return server_interface("our thing", "json.encoder", name, probe, needs=needs, release="2.0", pip="'json>=2.0'")


def test_what_fits_is_given() -> None:
    from json.encoder import JSONEncoder

    assert take() is JSONEncoder


def test_what_is_not_installed_is_told_with_the_line_to_type() -> None:
    with pytest.raises(ConfigurationError, match=r"our thing needs .*pip install 'json>=2.0'$"):
        take(needs=("json", "absent_module"))


def test_a_name_or_module_that_is_gone_is_told() -> None:
    with pytest.raises(
        ConfigurationError, match=r"not compatible with Gone in json.encoder of json of unknown version.*2\.0"
    ):
        take(name="Gone")


def test_what_the_probe_finds_is_told() -> None:
    def probe(found: Any) -> None:
        raise TypeError("it has no sleeves")

    with pytest.raises(ConfigurationError, match=r"it has no sleeves.*pip install 'json==2\.0\.\*'"):
        take(probe)


class Base:
    def inherited(self) -> None: ...

    def overridden(self) -> None: ...


class Derived(Base):
    attribute = None

    def overridden(self) -> None: ...


def test_methods_must_be_there_and_not_only_inherited() -> None:
    require_methods(Derived, ("overridden",), Base)
    require_methods(Derived, ("overridden", "inherited"))
    for absent in ("inherited", "attribute", "gone"):
        with pytest.raises(TypeError, match=f"Derived has no {absent}"):
            require_methods(Derived, ("overridden", absent), Base)


def test_attributes_may_have_any_value_but_must_be_there() -> None:
    require_attributes(Derived(), ("attribute",))
    with pytest.raises(TypeError, match="Derived has no gone"):
        require_attributes(Derived(), ("attribute", "gone"))


def test_names_of_inner_functions_count() -> None:
    def outer() -> Any:
        def inner() -> Any:
            return needle.eye  # noqa: F821 (no such name, on purpose)

        return inner

    assert {"needle", "eye"} <= names_used(outer.__code__)
    assert "outer" not in names_used(outer.__code__)
