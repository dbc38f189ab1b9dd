"""Users of the staff: a smart card of an unknown person creates an account without rights."""

from typing import Any

from django.contrib.auth import get_user_model
from django.contrib.auth.models import Group

from mtls_middleware.integrations import CertificateIdentity
from mtls_middleware.integrations.django.backends import CertificateUserBackend


class SmartCardBackend(CertificateUserBackend):
    """Creates users, and maps the units (OU) of the certificate to groups that exist."""

    def create_user(self, identity: CertificateIdentity) -> Any:
        user = get_user_model()(username=identity.name)
        user.set_unusable_password()
        user.save()
        return user

    def configure_user(self, user: Any, identity: CertificateIdentity) -> Any:
        units = identity.certificate.subject_attributes("OU")
        user.groups.set(Group.objects.filter(name__in=units))
        return user
