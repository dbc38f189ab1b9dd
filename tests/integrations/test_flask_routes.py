"""`require_scopes` in real Flask: what only Flask has. test_routes.py has what all frameworks share."""

from typing import Any

import flask
import pytest
from flask.views import View

from mtls_middleware import ConfigurationError
from mtls_middleware.integrations.flask_routes import require_scopes
from mtls_middleware.testing import IssuedCertificate, TokenIssuer
from tests.integrations.route_frameworks import FLASK
from tests.integrations.route_requests import fields


def test_a_decorator_around_cannot_make_a_refusal_a_success(
    mtls_client: IssuedCertificate, mtls_issuer: TokenIssuer
) -> None:
    app = FLASK.protected(FLASK.small(), mtls_issuer)
    inner = app.view_functions["view"]
    app.view_functions["view"] = lambda: flask.make_response(str(inner()), 200)
    assert FLASK.send(app, "/", fields(mtls_client, mtls_issuer)).status == 403
    assert FLASK.send(app, "/", fields(mtls_client, mtls_issuer, "a")).status == 200


class _ClassBased(View):
    def dispatch_request(self) -> Any:
        return "reached"


def test_a_decorated_view_class_is_rejected_with_advice() -> None:
    with pytest.raises(ConfigurationError, match="decorators = "):
        require_scopes("a")(_ClassBased)
