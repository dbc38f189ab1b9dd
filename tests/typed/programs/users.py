"""Users by certificate: the user of an application, of Django, of Starlette and of Flask."""

from dataclasses import dataclass

from django.contrib.auth.models import AbstractBaseUser, User
from django.http import HttpRequest
from flask import Flask, request
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.authentication import AuthenticationMiddleware

from mtls_middleware import ClientCertificate
from mtls_middleware.integrations import CertificateIdentity, CertificateUser
from mtls_middleware.integrations.django.backends import CertificateUserBackend
from mtls_middleware.integrations.flask_routes import current_certificate
from mtls_middleware.integrations.starlette_authentication import CertificateAuthenticationBackend
from mtls_middleware.policy import IssuerAndSerialNumber, SubjectAttribute, Thumbprint, UserPrincipalName
from mtls_middleware.testing import CertificateAuthority
from mtls_middleware.testing.django import CertificateClient


@dataclass
class Person:
    """A user of this application."""

    name: str


def find(identity: CertificateIdentity) -> Person | None:
    return Person(identity.name) if identity.name == "alice@corp.example" else None


async def find_later(identity: CertificateIdentity) -> Person | None:
    return find(identity)


identities = CertificateUser(by=SubjectAttribute("serialNumber"), issued_by=["staff-ca.pem", "partner-ca.pem"])
people = CertificateUser(by=UserPrincipalName(), issued_by="staff-ca.pem", look_up=find)
people_later = CertificateUser(by=Thumbprint(), look_up=find_later)
rule = IssuerAndSerialNumber("CN=Staff CA,O=Acme", 4711)

app = Flask("shop")


@app.get("/")
def home() -> dict[str, str | None]:
    person: Person | None = people.find(request)
    identity: CertificateIdentity | None = identities.find(request)
    return {
        "person": None if person is None else person.name,
        "identity": None if identity is None else identity.spelling,
        "certificate": current_certificate.thumbprint,
    }


async def person_of(certificate: ClientCertificate) -> Person | None:
    identity = people_later.identify(certificate)
    return None if identity is None else await people_later.auser_of(identity)


starlette = Starlette(
    middleware=[Middleware(AuthenticationMiddleware, backend=CertificateAuthenticationBackend(people_later))]
)


class SmartCardBackend(CertificateUserBackend):
    """Creates users."""

    name_field = "email"

    def create_user(self, identity: CertificateIdentity) -> User:
        return User.objects.create(username=identity.name, email=identity.name)

    def configure_user(self, user: AbstractBaseUser, identity: CertificateIdentity) -> AbstractBaseUser | None:
        return user if identity.certificate.policies else None


def admin_page(path: HttpRequest | str) -> int:
    client = CertificateClient(CertificateAuthority().issue("CN=alice"))
    client.use(None)
    return client.get(str(path)).status_code
