"""`CertificateUserBackend`: finds the user of a client certificate in Django's database."""

from typing import Any

from asgiref.sync import async_to_sync
from django.contrib import auth
from django.contrib.auth import get_user_model
from django.contrib.auth.backends import ModelBackend

from mtls_middleware.integrations.certificate_user import CertificateIdentity
from mtls_middleware.integrations.django.configuration import configured_user


class CertificateUserBackend(ModelBackend):
    """An authentication backend for client certificates. By default, it accepts existing, active users only.

    Subclass it to create users (`create_user`), or to map groups and other data (`configure_user`). It accepts no
    password. Permissions are those of Django's `ModelBackend`.

    Attributes:
        name_field: the field of the user model that has the name of the certificate. `None`: the `USERNAME_FIELD`. If
            users can choose the content of this field, use a different field: otherwise a user can take the name of a
            person who has not logged in yet.

    Example: `AUTHENTICATION_BACKENDS = ["mtls_middleware.integrations.django.backends.CertificateUserBackend"]`
    """

    name_field: str | None = None

    def authenticate(  # type: ignore[override]  # no password: Django chooses a backend by this signature
        self,
        request: Any,  # noqa: ARG002 (Django's interface)
        certificate_identity: CertificateIdentity | None = None,
    ) -> Any:
        """Return the user with this identity, or `None`. `CertificateUserMiddleware` calls this method."""
        if certificate_identity is None:
            return None
        return self._admitted(certificate_identity, self.find_user(certificate_identity))

    def find_user(self, identity: CertificateIdentity) -> Any:
        """Return the existing user with this identity, or `None`. The middleware calls this method on every request.

        If the `CertificateUser` of the setting has `look_up`, the result is that of `look_up`. Otherwise, the result is
        the only user whose `name_field` equals the name. The comparison is that of names in certificates, whatever the
        collation of the database is. The field may contain `identity.name` or `identity.spelling`.
        """
        users = configured_user()
        if users.is_async:
            return async_to_sync(users.auser_of)(identity)
        if users.has_look_up:
            return users.user_of(identity)
        model: Any = get_user_model()
        field = self.name_field or model.USERNAME_FIELD
        candidates = model._default_manager.filter(**{f"{field}__in": [identity.name, identity.spelling]})
        found = [each for each in candidates if users.canonical_form(getattr(each, field)) == identity.name]
        return found[0] if len(found) == 1 else None

    def create_user(self, identity: CertificateIdentity) -> Any:  # noqa: ARG002 (for subclasses)
        """Return a new user for an identity without a user, or `None`. By default, no user is created.

        Example: `return User.objects.create(username=identity.name)`
        """
        return None

    def configure_user(self, user: Any, identity: CertificateIdentity) -> Any:  # noqa: ARG002 (for subclasses)
        """Return the user, after any change to its data.

        The middleware calls this method when a certificate begins a session.

        By default, nothing is changed. Return `None` to reject the user.

        Example: `user.groups.set(Group.objects.filter(name__in=identity.certificate.subject_attributes("OU")))`
        """
        return user

    def _admitted(self, identity: CertificateIdentity, user: Any) -> Any:
        if user is None:
            user = self.create_user(identity)
        if user is None or not self.user_can_authenticate(user):
            return None
        return self.configure_user(user, identity)


def user_of_certificate(request: Any, identity: CertificateIdentity) -> Any:
    """Return the active user with this identity, or `None`, for a request without a session.

    The hooks `create_user` and `configure_user` are called only if no user with this identity exists.

    Example: `user_of_certificate(request, configured_user().identify(certificate))`
    """
    for backend in auth.get_backends():
        if isinstance(backend, CertificateUserBackend):
            user = backend.find_user(identity)
            if user is not None:
                return user if backend.user_can_authenticate(user) else None
    return auth.authenticate(request, certificate_identity=identity)
