"""The views of `path_sites`, for Django under ASGI and WSGI."""

from typing import Any

from django.http import HttpResponse
from django.urls import re_path


def _view(name: str) -> Any:
    return lambda request, **_: HttpResponse(name)


urlpatterns = [
    re_path(r"^admin(?:/.*)?\Z", _view("admin")),
    re_path(r"^health\Z", _view("health")),
    re_path(r"", _view("other")),
]
