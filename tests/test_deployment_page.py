"""`docs/deployment.md` is so: each piece of Python on it takes what that gateway or cloud documents that it sends."""

import re
from pathlib import Path
from typing import Any

import pytest

from mtls_middleware.cli.spoofs import claims
from mtls_middleware.testing import CertificateAuthority
from tests.gateways import PROXY, Request, both_gateways, send

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "deployment.md").read_text("utf-8")
SECTIONS = {title.partition("\n")[0]: title for title in PAGE.split("\n## ")[1:]}
BLOCKS = {title: re.findall(r"```python\n(.*?)```", text, re.DOTALL) for title, text in SECTIONS.items()}

CA = CertificateAuthority()
BILLING = CA.issue("CN=billing", uris=["spiffe://cluster.local/ns/shop/sa/billing"])
SENT = {vendor: dict(fields) for vendor, fields in claims(BILLING.client_certificate().x509).items()}
XFCC = SENT["Envoy"]["X-Forwarded-Client-Cert"]
URI = "URI=spiffe://cluster.local/ns/{}/sa/{}"
BY = "By=spiffe://cluster.local/ns/shop/sa/api;Hash=" + 64 * "0" + ';Subject="";'
GATEWAY = BY + URI.format("istio-system", "gateway")
BARE = BY + URI.format("shop", "billing")
SECRET = 32 * "s"
# The page chooses these names.
GOOGLE = {
    "MtlsClientCert": SENT["Google Cloud"]["X-Client-Cert-Leaf"],
    "MtlsClientVerify": SENT["Google Cloud"]["X-Client-Cert-Chain-Verified"],
}
NO_LEAF = GOOGLE | {"MtlsClientCert": ""}
UNVERIFIED = GOOGLE | {"MtlsClientVerify": "false"}
RFC9440 = {"MtlsClientCert": SENT["RFC 9440"]["Client-Cert"]}

# (section, the peer, what it sends, what comes of it: a verification, "none", or a status)
ANSWERS: list[tuple[str, str, dict[str, str], str | int]] = [
    ("ingress-nginx", "10.8.3.4", SENT["ingress-nginx"], "BY_PROXY"),
    ("ingress-nginx", "10.8.3.4", SENT["ingress-nginx"] | {"ssl-client-verify": "FAILED:expired"}, "PRESENTED"),
    ("ingress-nginx", "10.8.3.4", {"ssl-client-verify": "NONE"}, "none"),
    ("Istio ingress gateway", "10.8.3.4", SENT["Envoy"], "BY_PROXY"),
    ("Istio ingress gateway", "10.8.3.4", {"X-Forwarded-Client-Cert": f"{XFCC},{GATEWAY}"}, 400),
    ("Istio gateway, then a sidecar", "127.0.0.6", {"X-Forwarded-Client-Cert": f"{XFCC},{GATEWAY}"}, "BY_PROXY"),
    ("Istio gateway, then a sidecar", "127.0.0.6", {"X-Forwarded-Client-Cert": GATEWAY}, 400),
    ("Istio sidecar, callers in the mesh", "127.0.0.6", SENT["Envoy"], "BY_PROXY"),
    ("Istio sidecar, callers in the mesh", "127.0.0.6", {"X-Forwarded-Client-Cert": BARE}, "none"),
    ("Envoy Gateway", "10.8.3.4", SENT["Envoy"], "BY_PROXY"),
    ("AWS ALB, verify", "10.0.1.9", SENT["AWS verify"], "BY_PROXY"),
    ("AWS ALB, verify", "10.0.1.9", SENT["AWS passthrough"], "none"),
    ("AWS ALB, passthrough", "10.0.2.9", SENT["AWS passthrough"], "BY_TRUST_STORE"),
    ("AWS ALB, passthrough", "10.0.2.9", SENT["AWS verify"], "none"),
    ("Google Cloud", "35.191.0.9", GOOGLE, "BY_PROXY"),
    ("Google Cloud", "35.191.0.9", UNVERIFIED, "PRESENTED"),
    ("Google Cloud", "35.191.0.9", NO_LEAF, 400),
    ("Azure App Service", "169.254.129.1", SENT["Azure"], "BY_TRUST_STORE"),
    ("Cloudflare, RFC 9440", "173.245.48.9", RFC9440, "BY_PROXY"),
    ("Cloudflare, RFC 9440", "173.245.48.9", {}, "none"),
    ("Cloudflare, its own fields", "103.21.244.9", SENT["Cloudflare"], "BY_PROXY"),
    ("Cloudflare, its own fields", "103.21.244.9", SENT["Cloudflare"] | {"Cf-Cert-Revoked": "true"}, "PRESENTED"),
]
SECRETS = {"MTLS_PROXY_SECRET": "MtlsProxySecret"}
# These cannot add one.
NO_SECRET = {
    "Istio gateway, then a sidecar", "Istio sidecar, callers in the mesh", "AWS ALB, verify", "AWS ALB, passthrough",
    "Azure App Service",
}  # fmt: skip


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the page's Python runs: the CA's file, and the secrets."""
    (tmp_path / "clients-ca.pem").write_text(CA.pem)
    monkeypatch.chdir(tmp_path)
    for name in SECRETS:
        monkeypatch.setenv(name, SECRET)


def made(section: str) -> dict[str, Any]:
    names: dict[str, Any] = {}
    exec(BLOCKS[section][0], names)
    return names


def answer(section: str, gateway: str, peer: str, headers: list[tuple[str, str]], **more: Any) -> str | int:
    names = made(section)
    layers = {"trust_store": names.get("trust_store"), **more}
    result = send(
        gateway,
        lambda module, app: module.ClientCertificateMiddleware(app, names["source"], **layers),
        Request(headers=headers, peer=peer),
    )
    if result.status != 200:
        return result.status
    certificate = result.application.certificate
    assert certificate is None or certificate.thumbprint == BILLING.thumbprint
    return certificate.verification.name if certificate else "none"


def with_secret(section: str, headers: dict[str, str]) -> list[tuple[str, str]]:
    added = [(name, SECRET) for variable, name in SECRETS.items() if variable in BLOCKS[section][0]]
    return [*headers.items(), *added]


@both_gateways
@pytest.mark.parametrize(
    "documented",
    ANSWERS,
    ids=[f"{number} {section}" for number, (section, *_) in enumerate(ANSWERS)],
)
def test_what_is_documented_there_is_taken_as_the_page_says(elsewhere, gateway, documented):
    section, peer, headers, expected = documented
    assert answer(section, gateway, peer, with_secret(section, headers)) == expected


@both_gateways
@pytest.mark.parametrize("section", [title for title, found in BLOCKS.items() if found])
def test_from_elsewhere_or_without_the_secret_nothing_is_taken(elsewhere, gateway, section):
    peer, headers = next((peer, headers) for title, peer, headers, _ in ANSWERS if title == section)
    stranger = "203.0.113.9"
    assert stranger != peer != PROXY
    assert answer(section, gateway, stranger, with_secret(section, headers)) == "none"
    if with_secret(section, {}):
        assert answer(section, gateway, peer, list(headers.items())) == "none"


@pytest.mark.parametrize("section", [title for title, found in BLOCKS.items() if found])
def test_every_gateway_that_can_add_a_secret_adds_one(elsewhere, section):
    assert made(section)["source"].has_secret is (section not in NO_SECRET)


def test_the_rule_for_callers_in_the_mesh_lets_the_one_it_names_in(elsewhere):
    section = "Istio sidecar, callers in the mesh"
    allow, headers = made(section)["allow"], [("X-Forwarded-Client-Cert", XFCC)]
    assert answer(section, "asgi", "127.0.0.6", headers, allow=allow) == "BY_PROXY"
    assert answer(section, "asgi", "127.0.0.6", headers, allow=~allow) == 403


def test_every_section_is_in_the_table_and_has_its_python_and_its_answers():
    linked = re.findall(r"^\| \[.*?\]\(#([\w-]+)\)", PAGE, re.MULTILINE)
    assert linked == [re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in SECTIONS]
    assert {title: len(found) for title, found in BLOCKS.items()} == {
        title: int(title != "Istio ambient") for title in SECTIONS
    }
    assert {section for section, *_ in ANSWERS} == {title for title, found in BLOCKS.items() if found}


def test_every_link_leads_somewhere():
    for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", PAGE):
        assert (ROOT / "docs" / target).exists(), target
