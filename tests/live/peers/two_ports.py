"""The sample authorization server on two ports: one that asks for no certificate, and one for clients that have one.

`python -m tests.live.peers.two_ports PORT ALIAS_PORT DIRECTORY` (RFC 8705 5: an address of its own for mutual TLS).
"""

import ssl
import sys
import threading

from cheroot.ssl.builtin import BuiltinSSLAdapter
from cheroot.wsgi import Server

from samples.authorization_server import app


def server(port: int, directory: str, certificates: ssl.VerifyMode) -> Server:
    made = Server(("127.0.0.1", port), app)
    made.ssl_adapter = BuiltinSSLAdapter(f"{directory}/server.pem", f"{directory}/server-key.pem")
    made.ssl_adapter.context.load_verify_locations(f"{directory}/let-in.pem")
    made.ssl_adapter.context.verify_mode = certificates
    made.prepare()
    return made


if __name__ == "__main__":
    port, alias_port, directory = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    for_certificates = server(alias_port, directory, ssl.CERT_OPTIONAL)
    threading.Thread(target=for_certificates.serve, daemon=True).start()
    server(port, directory, ssl.CERT_NONE).serve()
