"""An API for several partner companies, each with its own CA: the CA that issued the certificate is the tenant.

The folder PARTNERS has one PEM file for each partner, named after the partner, with the certificate of its CA. The
names in a certificate do not matter: a partner can issue certificates for itself only, whatever it writes into them.
"""

import os
from pathlib import Path

from flask import Flask, request

from mtls_middleware import ClientCertificate, route_certificate
from mtls_middleware.policy import IssuedBy, as_rule
from mtls_middleware.sources import ServerTLS
from mtls_middleware.validation import TrustStore
from mtls_middleware.wsgi import protect

files = sorted(Path(os.environ.get("PARTNERS", "partners")).glob("*.pem"))
partners = {path.stem: IssuedBy(path) for path in files}
invoices = {name: [f"{name}-1", f"{name}-2"] for name in partners}


def tenant_of(certificate: ClientCertificate) -> str | None:
    """The only partner that issued the certificate. A certificate of two partners has none."""
    found = [name for name, rule in partners.items() if rule.holds(certificate)]
    return found[0] if len(found) == 1 else None


flask_app = Flask(__name__)


@flask_app.get("/invoices")
def own_invoices() -> dict[str, object]:
    tenant = tenant_of(route_certificate(request))
    return {"tenant": tenant, "invoices": invoices.get(tenant or "", [])}


app = protect(
    flask_app.wsgi_app,
    source=ServerTLS(),
    trust_store=TrustStore(files),
    allow=as_rule(lambda certificate: tenant_of(certificate) is not None),
)
