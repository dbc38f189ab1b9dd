"""An application of django-oauth-toolkit beside its registration metadata: agreement, and each disagreement."""

from types import SimpleNamespace
from typing import Any

import pytest

from mtls_middleware import ConfigurationError
from mtls_middleware.integrations.django_applications import check_registration, registered_client
from tests.integrations.test_methods import CLIENTS


def application(client_type: str, client_id: str = "app", client_secret: str = "hash") -> Any:
    return SimpleNamespace(client_id=client_id, client_type=client_type, client_secret=client_secret)


VERIFIED = {"client_secret_basic", "client_secret_post", "tls_client_auth", "self_signed_tls_client_auth"}


@pytest.mark.parametrize("client_type", ["public", "confidential"])
@pytest.mark.parametrize("method", CLIENTS)
def test_the_type_of_an_application_and_its_method_agree_or_are_rejected(method: str, client_type: str) -> None:
    given = application(client_type)
    registered = registered_client(given, CLIENTS[method])
    if (method, client_type) == ("none", "public") or (method in VERIFIED and client_type == "confidential"):
        check_registration(given, registered)
        return
    with pytest.raises(ConfigurationError, match=f"client 'app': token_endpoint_auth_method is '{method}'") as caught:
        check_registration(given, registered)
    expected = "set client_type to" if method in {*VERIFIED, "none"} else "django-oauth-toolkit cannot verify: register"
    assert expected in str(caught.value)


@pytest.mark.parametrize("metadata", [None, {}, {"token_endpoint_auth_method": None}])
def test_without_a_method_the_type_decides(metadata: Any) -> None:
    for client_type, method in (("public", "none"), ("confidential", "client_secret_basic")):
        given = application(client_type)
        registered = registered_client(given, metadata)
        assert registered.token_endpoint_auth_method == method
        check_registration(given, registered)


def test_a_secret_is_there_if_the_method_needs_one() -> None:
    for method in ("client_secret_basic", "client_secret_post"):
        given = application("confidential", client_secret="")
        with pytest.raises(ConfigurationError, match="has no client_secret: set a client_secret"):
            check_registration(given, registered_client(given, {"token_endpoint_auth_method": method}))
    check_registration(
        application("confidential", client_secret=""),
        registered_client(application("confidential"), CLIENTS["tls_client_auth"]),
    )


def test_metadata_of_another_client_are_rejected() -> None:
    with pytest.raises(ConfigurationError, match=r"^client 'app': its metadata has client_id='other'"):
        registered_client(application("public"), {"client_id": "other"})
    with pytest.raises(ConfigurationError, match="both must have the same client_id"):
        check_registration(application("public", "other"), registered_client(application("public")))
