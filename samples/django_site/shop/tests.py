"""The tests of the shop: `STAFF_CA=... python manage.py test`."""

from django.contrib.auth import get_user_model
from django.contrib.auth.models import Group
from django.test import TestCase, override_settings

from mtls_middleware.integrations import CertificateUser
from mtls_middleware.policy import ANYONE, IssuedBy, UserPrincipalName
from mtls_middleware.sources import ServerTLS
from mtls_middleware.testing import CertificateAuthority, IssuedCertificate
from mtls_middleware.testing.django import CertificateClient
from mtls_middleware.validation import TrustStore

STAFF, SUPPLIERS = CertificateAuthority("CN=Staff CA"), CertificateAuthority("CN=Suppliers CA")
SETTING = {
    "source": ServerTLS(),
    "trust_store": TrustStore([STAFF.certificate, SUPPLIERS.certificate]),
    "allow": {"/": ANYONE, "/admin": IssuedBy(STAFF.certificate)},
    "user": CertificateUser(by=UserPrincipalName(), issued_by=STAFF.certificate),
}


def card(name: str, authority: CertificateAuthority = STAFF) -> IssuedCertificate:
    return authority.issue(f"CN={name},OU=sales", user_principal_names=[f"{name}@corp.example"])


@override_settings(MTLS_MIDDLEWARE=SETTING)
class ShopTests(TestCase):
    def test_every_client_may_see_the_shop(self) -> None:
        self.assertEqual(CertificateClient().get("/").json(), {"welcome": "guest"})

    def test_the_admin_needs_a_card(self) -> None:
        for client in (CertificateClient(), CertificateClient(card("alice", SUPPLIERS))):
            self.assertEqual(client.get("/admin/").status_code, 403)

    def test_a_new_card_creates_an_account_without_rights(self) -> None:
        Group.objects.create(name="sales")
        bob = CertificateClient(card("bob"))
        self.assertEqual(bob.get("/api/profile").json(), {"user": "bob@corp.example", "groups": ["sales"]})
        self.assertEqual(bob.get("/admin/", follow=True).status_code, 403)

    def test_staff_members_get_into_the_admin(self) -> None:
        get_user_model().objects.create(username="alice@corp.example", is_staff=True)
        self.assertEqual(CertificateClient(card("alice")).get("/admin/").status_code, 200)
