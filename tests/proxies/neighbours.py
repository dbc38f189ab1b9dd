"""Other virtual hosts on the same address as the generated one: how each proxy is told of them, in every order.

`a.test` verifies clients against another CA, and `c.test` verifies none. Both resume sessions, and accept early data if
the proxy can. `b.test` is the host of the configuration that `proxy-config` wrote.
"""

import re
from collections.abc import Callable, Sequence
from itertools import permutations
from pathlib import Path

OURS = "b.test"
ORDERS = [*permutations(("a.test", OURS)), *permutations(("a.test", OURS, "c.test"))]
# No order is to be chosen for these: Traefik sorts routers by itself.
ONE_ORDER = {"traefik"}


def add(proxy: str, folder: Path, files: Path, port: int, order: Sequence[str]) -> None:
    """Add the other hosts of `order` to the configuration in `folder`. `files` has server.pem and other-ca.pem."""
    _ADD[proxy](folder, files, port, order)


def _nginx(folder: Path, files: Path, port: int, order: Sequence[str]) -> None:
    path = folder / "mtls.conf"
    other = """
    server {{
        listen 127.0.0.1:{port} ssl http2; server_name {name};
        ssl_certificate {files}/server.pem; ssl_certificate_key {files}/server.pem.key;
        ssl_protocols TLSv1.2 TLSv1.3; ssl_session_tickets on; ssl_session_cache shared:x:1m; ssl_early_data on;
        {verify}
        location / {{ return 200 "{name}"; }}
    }}"""
    verify = {"a.test": f"ssl_client_certificate {files}/other-ca.pem; ssl_verify_client on;"}
    blocks = {each: other.format(port=port, name=each, files=files, verify=verify.get(each, "")) for each in order}
    blocks[OURS] = path.read_text()
    path.write_text("\n".join(blocks[each] for each in order))


def _apache(folder: Path, files: Path, port: int, order: Sequence[str]) -> None:
    path = folder / "mtls.conf"
    listen, ours = re.split(r"(?=^<VirtualHost)", path.read_text(), flags=re.MULTILINE)
    other = """
    <VirtualHost 127.0.0.1:{port}>
        ServerName {name}
        SSLEngine on
        SSLCertificateFile {files}/server.pem
        SSLCertificateKeyFile {files}/server.pem.key
        SSLSessionTickets on
        {verify}
        Redirect 410 /
    </VirtualHost>"""
    verify = {"a.test": f"SSLCACertificateFile {files}/other-ca.pem\nSSLVerifyClient require\nSSLVerifyDepth 4"}
    blocks = {each: other.format(port=port, name=each, files=files, verify=verify.get(each, "")) for each in order}
    blocks[OURS] = ours
    cache = f"SSLSessionCache shmcb:{folder}/sessions(512000)\n"  # Debian's ssl.conf has such a line
    path.write_text(listen + cache + "\n".join(blocks[each] for each in order))


def _haproxy(folder: Path, files: Path, port: int, order: Sequence[str]) -> None:
    path = folder / "haproxy.cfg"
    ours = f"{files}/server.pem"
    options = {
        "a.test": f"[ca-file {files}/other-ca.pem verify required alpn h2,http/1.1 allow-0rtt]",
        OURS: f"[ca-file {files}/ca.pem verify optional alpn h2,http/1.1]",
        "c.test": "[verify none alpn h2,http/1.1 allow-0rtt]",
    }
    (folder / "list").write_text("".join(f"{ours} {options[each]} {each}\n" for each in order))
    text = path.read_text().replace(f"crt {ours} ", "crt-list list ")
    path.write_text(text.replace("no-tls-tickets", "").replace("tune.ssl.cachesize 0", "tune.ssl.cachesize 1000"))


def _envoy(folder: Path, files: Path, port: int, order: Sequence[str]) -> None:
    path = folder / "envoy.yaml"
    before, ours, after = re.split(
        r"(?=^    - transport_socket:)|(?=^  clusters:)", path.read_text(), flags=re.MULTILINE
    )
    other = """    - filter_chain_match: {{server_names: [{name}]}}
      transport_socket:
        name: envoy.transport_sockets.tls
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext
          common_tls_context:
            alpn_protocols: [h2, http/1.1]
            tls_certificates:
            - certificate_chain: {{filename: "{files}/server.pem"}}
              private_key: {{filename: "{files}/server.pem.key"}}
{verify}
      filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: other
          route_config:
            virtual_hosts:
            - name: other
              domains: ["*"]
              routes:
              - {{match: {{prefix: /}}, direct_response: {{status: 410}}}}
          http_filters:
          - name: envoy.filters.http.router
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router
"""
    verify = {
        "a.test": f'            validation_context: {{trusted_ca: {{filename: "{files}/other-ca.pem"}}}}\n'
        "          require_client_certificate: true"
    }
    blocks = {each: other.format(name=each, files=files, verify=verify.get(each, "")) for each in order}
    blocks[OURS] = ours
    path.write_text(before + "".join(blocks[each] for each in order) + after)


def _traefik(folder: Path, files: Path, port: int, order: Sequence[str]) -> None:
    routers = "".join(
        f"    {name[0]}:\n      entryPoints: [mtls]\n      rule: Host(`{name}`)\n      service: noop@internal\n"
        f"      tls: {{{'options: a' if name == 'a.test' else ''}}}\n"
        for name in order
        if name != OURS
    )
    (folder / "dynamic" / "other.yml").write_text(
        "tls:\n  options:\n    a:\n      clientAuth:\n"
        f'        caFiles: ["{files}/other-ca.pem"]\n        clientAuthType: RequireAndVerifyClientCert\n'
        f"http:\n  routers:\n{routers}"
    )


def _caddy(folder: Path, files: Path, port: int, order: Sequence[str]) -> None:
    path = folder / "Caddyfile"
    before, ours = re.split(r"(?=^https://)", path.read_text(), flags=re.MULTILINE)
    other = """https://{name}:{port} {{
	bind 127.0.0.1
	tls {files}/server.pem {files}/server.pem.key {verify}
	respond 410
}}
"""
    verify = {
        "a.test": "{\n\t\tclient_auth {\n\t\t\tmode require_and_verify\n\t\t\ttrust_pool file {\n"
        f"\t\t\t\tpem_file {files}/other-ca.pem\n\t\t\t}}\n\t\t}}\n\t}}"
    }
    blocks = {each: other.format(name=each, port=port, files=files, verify=verify.get(each, "")) for each in order}
    blocks[OURS] = ours
    path.write_text(before + "\n".join(blocks[each] for each in order))


_ADD: dict[str, Callable[[Path, Path, int, Sequence[str]], None]] = {
    "nginx": _nginx,
    "apache": _apache,
    "haproxy": _haproxy,
    "envoy": _envoy,
    "traefik": _traefik,
    "caddy": _caddy,
}
