"""Naming a class: made once, by its name, and refused where uvicorn has moved."""

import asyncio
import logging
import pickle
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

import pytest
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.protocols.websockets.wsproto_impl import WSProtocol

from mtls_middleware import ConfigurationError
from mtls_middleware.servers import uvicorn_tls
from tests.servers.uvicorn_tls.server import ENVIRON, HTTP, MODULE, WS, Application


@pytest.fixture
def unnamed(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """As if no class had been named yet."""
    for name in (*HTTP, "HTTP2", "_HTTP2Streams", *WS):
        monkeypatch.delitem(vars(uvicorn_tls), name, raising=False)
    return monkeypatch


@pytest.mark.parametrize("name", [*HTTP, "HTTP2", *WS])
def test_a_class_is_made_once_and_found_again_by_its_name(name: str) -> None:
    made = getattr(uvicorn_tls, name)
    assert getattr(uvicorn_tls, name) is made
    assert pickle.loads(pickle.dumps(made)) is made  # uvicorn's workers get their configuration so


def test_other_names_raise_attribute_error() -> None:
    with pytest.raises(AttributeError, match="'H12'"):
        uvicorn_tls.H12  # noqa: B018 (the access alone raises)


@pytest.mark.parametrize(
    ("name", "library"),
    [("HTTPTools", "httptools"), ("Zttp", "zttp"), ("WebSockets", "websockets"), ("WSProto", "wsproto")],
)
def test_a_missing_library_is_told_with_the_line_to_type(name: str, library: str, unnamed: pytest.MonkeyPatch) -> None:
    unnamed.setitem(sys.modules, library, None)
    config = uvicorn.Config(Application(), http=f"{MODULE}:{name}", log_config=None)
    with pytest.raises(ConfigurationError, match=rf"pip install 'mtls-middleware\[uvicorn\]' {library}$"):
        config.load()


def test_without_uvicorn_the_line_to_type_is_told_too(unnamed: pytest.MonkeyPatch) -> None:
    unnamed.setitem(sys.modules, "uvicorn", None)
    with pytest.raises(ConfigurationError, match="pip install"):
        uvicorn_tls.H11  # noqa: B018 (the access alone raises)


class NoCallback(asyncio.Protocol):
    """Speaks neither of `connection_made` nor of httptools."""


class OtherApplication(H11Protocol):
    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.app = Application()


class NoApplication(H11Protocol):
    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        del self.app


class OtherArguments(H11Protocol):
    def __init__(self, context: Any) -> None:
        raise NotImplementedError


class NoContextFactory(H11Protocol):
    def __init__(self, config: Any, **options: Any) -> None:
        super().__init__(config, **options)
        del config.ssl_context_factory


class NoLoadedApplication(H11Protocol):
    def __init__(self, config: Any, **options: Any) -> None:
        super().__init__(config, **options)
        del config.loaded_app


class OtherEvents(H11Protocol):
    def handle_events(self) -> None:
        raise NotImplementedError


class NoScope(H11Protocol):
    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        del self.scope


@pytest.mark.parametrize(
    ("base", "report"),
    [
        (NoCallback, "no connection_made"),
        (OtherApplication, "the app of OtherApplication is not config.loaded_app"),
        (NoApplication, "'app'"),
        (OtherArguments, "unexpected keyword argument"),
        (NoLoadedApplication, "'loaded_app'"),
        (NoContextFactory, "no ssl_context_factory"),
        (OtherEvents, "does not call _should_upgrade before it uses its app"),
        (NoScope, "NoScope has no scope"),
    ],
)
def test_a_moved_interface_is_told_before_uvicorn_listens(
    base: type[asyncio.Protocol], report: str, unnamed: pytest.MonkeyPatch
) -> None:
    unnamed.setattr("uvicorn.protocols.http.h11_impl.H11Protocol", base)
    config = uvicorn.Config(Application(), http=f"{MODULE}:H11", log_config=None)
    with pytest.raises(ConfigurationError, match=report) as refused:
        config.load()
    assert f"of uvicorn {uvicorn.__version__}" in str(refused.value)
    assert "pip install 'uvicorn==0.54.*'" in str(refused.value)


CALLBACKS = ["on_message_begin", "on_header", "on_headers_complete", "on_body", "on_message_complete"]


@pytest.mark.parametrize("callback", [*CALLBACKS, "handle_websocket_upgrade", "_should_upgrade", "send_400_response"])
def test_a_moved_callback_of_httptools_is_told(callback: str, unnamed: pytest.MonkeyPatch) -> None:
    unnamed.delattr(HttpToolsProtocol, callback)
    with pytest.raises(ConfigurationError, match=f"HttpToolsProtocol has no {callback}"):
        uvicorn_tls.HTTPTools  # noqa: B018 (the access alone raises)


def test_a_moved_choice_of_protocol_is_told(unnamed: pytest.MonkeyPatch) -> None:
    unnamed.setattr("uvicorn.protocols.http.auto_zttp_impl.AutoZttpProtocol._switch", lambda self, protocol: None)
    with pytest.raises(ConfigurationError, match="the arguments of _switch are not named http2 and initial_data"):
        uvicorn_tls.HTTP2  # noqa: B018 (the access alone raises)


def test_a_class_or_module_that_is_gone_is_told(unnamed: pytest.MonkeyPatch) -> None:
    unnamed.delattr("uvicorn.protocols.websockets.wsproto_impl.WSProtocol")
    with pytest.raises(ConfigurationError, match=WSProtocol.__name__):
        uvicorn_tls.WSProto  # noqa: B018 (the access alone raises)
    unnamed.setitem(sys.modules, "uvicorn.protocols.websockets.websockets_sansio_impl", None)
    with pytest.raises(ConfigurationError, match="websockets_sansio_impl"):
        uvicorn_tls.WebSockets  # noqa: B018 (the access alone raises)


def test_making_a_class_leaves_uvicorns_logging_as_it_was(unnamed: pytest.MonkeyPatch) -> None:
    loggers: Sequence[logging.Logger] = [logging.getLogger(each) for each in ("uvicorn", "uvicorn.access")]
    before = [(each.level, each.handlers, each.propagate) for each in loggers]
    assert uvicorn_tls.H11.__name__ == "H11"
    assert [(each.level, each.handlers, each.propagate) for each in loggers] == before


def test_a_name_imports_its_own_library_and_no_other() -> None:
    program = f"""
import sys
import {MODULE} as module
optional = ("uvicorn", "httptools", "zttp", "websockets", "wsproto")
print([each for each in optional if each in sys.modules])
module.H11
print([each for each in optional if each in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", program], env=ENVIRON, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n['uvicorn']\n"
