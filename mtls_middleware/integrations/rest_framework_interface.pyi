# Type hints for the classes of Django REST framework that `rest_framework` extends. Only type checkers read this file.

from typing import Any

class BaseAuthentication:
    def authenticate(self, request: Any) -> Any: ...
    def authenticate_header(self, request: Any) -> Any: ...

class SessionAuthentication(BaseAuthentication):
    def enforce_csrf(self, request: Any) -> None: ...

class BasePermission:
    def has_permission(self, request: Any, view: Any) -> bool: ...
    def has_object_permission(self, request: Any, view: Any, obj: Any) -> bool: ...

class APIException(Exception):  # noqa: N818 (the name of the framework)
    status_code: int
    detail: Any

class AuthenticationFailed(APIException):
    def __init__(self, detail: str | None = None, code: str | None = None) -> None: ...
