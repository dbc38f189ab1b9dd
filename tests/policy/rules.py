"""One certificate, with the rules that hold for it and those that do not."""

from ipaddress import ip_address

from mtls_middleware import ClientCertificate, Verification
from mtls_middleware.policy import (
    URI,
    CertificatePolicy,
    DNSName,
    Email,
    ExtendedKeyUsage,
    IPAddress,
    Issuer,
    Rule,
    SpiffeID,
    SpiffeTrustDomain,
    Subject,
    SubjectAttribute,
    Thumbprint,
    UserPrincipalName,
    as_rule,
)
from mtls_middleware.testing import CertificateAuthority

STRONGER = [each for each in Verification if each is not Verification.PRESENTED]


def certificate(verification: Verification = Verification.BY_PROXY) -> ClientCertificate:
    return ISSUED.client_certificate(verification)


ISSUED = CertificateAuthority("CN=Acme Client CA,O=Acme").issue(
    "CN=billing,O=Acme",
    dns=["billing.internal", "*.wild.internal"],
    uris=["spiffe://acme.internal/billing"],
    ip_addresses=["192.0.2.7", "2001:db8::1"],
    emails=["Ops@Acme.example"],
    user_principal_names=["Alice@Corp.example", "m\u00fcller@corp.example"],
    policies=["2.16.840.1.101.3.2.1.3.13", "1.2.3"],
)
MATCHING: list[Rule] = [
    Subject("CN=billing,O=Acme"),
    Subject("cn=Billing,o=ACME"),  # RFC 5280 7.1, RFC 4514 3: names are parsed, case is folded
    Issuer("CN=Acme Client CA,O=Acme"),
    DNSName("billing.internal"),
    DNSName("BILLING.Internal"),
    URI("spiffe://acme.internal/billing"),
    IPAddress("192.0.2.7"),
    IPAddress("2001:DB8:0::1"),
    IPAddress(ip_address("192.0.2.7")),
    Email("Ops@acme.EXAMPLE"),
    UserPrincipalName("Alice@corp.EXAMPLE"),
    UserPrincipalName("m\u00fcller@CORP.example"),
    SubjectAttribute("O", "acme"),
    SubjectAttribute("organizationName", " ACME "),
    SubjectAttribute("2.5.4.3", "Billing"),
    CertificatePolicy("1.2.3"),
    CertificatePolicy("2.16.840.1.101.3.2.1.3.13"),
    ExtendedKeyUsage("clientAuth"),
    ExtendedKeyUsage("1.3.6.1.5.5.7.3.2"),
    SpiffeID("spiffe://acme.internal/billing"),
    SpiffeTrustDomain("acme.internal"),
    Thumbprint(ISSUED.thumbprint),
    as_rule(lambda certificate: certificate.subject == "CN=billing,O=Acme"),
]
OTHERS: list[Rule] = [
    Subject("CN=billing"),
    Subject("O=Acme,CN=billing"),
    Subject("CN=billing+O=Acme"),
    Issuer("CN=billing,O=Acme"),
    DNSName("internal"),
    DNSName("a.billing.internal"),
    DNSName("a.wild.internal"),  # a wildcard in the certificate is a character like others
    DNSName("billing"),  # the CN is no host name
    URI("spiffe://acme.internal/Billing"),
    URI("spiffe://acme.internal/billing/"),
    IPAddress("192.0.2.8"),
    IPAddress("::ffff:192.0.2.7"),
    Email("ops@acme.example"),
    Email("Alice@Corp.example"),  # a user principal name is not an address
    UserPrincipalName("Ops@Acme.example"),
    UserPrincipalName("alice@corp.example"),
    UserPrincipalName("mu\u0308ller@corp.example"),  # no normalization
    UserPrincipalName("m\u00dcller@corp.example"),
    SubjectAttribute("O", "billing"),
    SubjectAttribute("OU", "acme"),
    SubjectAttribute("CN", "Acme Client CA"),  # of the issuer
    CertificatePolicy("1.2"),
    CertificatePolicy("1.2.3.4"),
    CertificatePolicy("2.5.29.32.0"),
    ExtendedKeyUsage("serverAuth"),
    ExtendedKeyUsage("anyExtendedKeyUsage"),
    SpiffeID("spiffe://acme.internal/billing/x"),
    SpiffeTrustDomain("internal"),
    SpiffeTrustDomain("acme.internal.evil"),
    Thumbprint("A" * 43),
    as_rule(lambda certificate: False),
]


def needs_no_chain(rule: Rule) -> bool:
    return isinstance(rule, Thumbprint)
