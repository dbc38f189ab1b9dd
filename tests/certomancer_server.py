"""`python -m tests.certomancer_server CONFIG PORT`: certomancer's OCSP responders under waitress.

The first segment of a path is the clock of the responder: `now`, `past` or `future`, two hours away, or `running`,
certomancer's own clock. That one has fractions of a second, which RFC 5280 4.1.2.5.2 forbids in a GeneralizedTime.
"""

import sys
from datetime import UTC, datetime, timedelta
from typing import Any

import waitress
from certomancer.integrations.animator import Animator, AnimatorArchStore
from certomancer.registry import CertomancerConfig
from werkzeug.exceptions import NotFound
from werkzeug.middleware.dispatcher import DispatcherMiddleware


def application(configuration: str) -> Any:
    architectures = AnimatorArchStore(CertomancerConfig.from_file(configuration).pki_archs)
    now = datetime.now(UTC).replace(microsecond=0)
    clocks = {"running": None, "now": now, "past": now - timedelta(hours=2), "future": now + timedelta(hours=2)}
    animators = {f"/{name}": Animator(architectures, at_time=clock) for name, clock in clocks.items()}
    return DispatcherMiddleware(NotFound(), animators)


if __name__ == "__main__":
    waitress.serve(application(sys.argv[1]), host="127.0.0.1", port=int(sys.argv[2]))
