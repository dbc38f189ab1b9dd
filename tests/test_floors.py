"""The house stands: a file imports only from floors below its own, none from its own floor."""

import ast
from pathlib import Path

import mtls_middleware

ROOT = Path(mtls_middleware.__file__).parent

# Ground floor first. A folder's name alone is its `__init__`.
FLOORS = [
    [
        "cli",
        "cli.proxies",
        "cli.spoofs",
        "errors",
        "cache",
        "exchange",
        "sources.known_servers",
        "integrations",
        "names",
        "names.preparation",
        "resource_server.revoked_list",
        "resource_server.token",
        "servers",
        "validation.profile",
        "well_known",
    ],
    ["background"],
    [
        "effects",
        "names.alternative",
        "names.distinguished",
        "sources.encoding",
        "refusal",
        "resource_server.bearer",
        "resource_server.claims",
        "resource_server.scope",
        "resource_server.follower",
        "validation.files",
        "validation.revocation_list",
    ],
    [
        "cli.exchanges",
        "fetched",
        "resource_server.metadata",
        "names.spiffe",
        "resource_server.answers",
        "validation.constraints",
        "servers.interface",
        "sources.rfc9440",
    ],
    ["cli.probe", "jwks", "certificate", "validation.revocation", "sources.vendors"],
    [
        "cli.wanted",
        "request",
        "policy.rule",
        "validation.chain",
        "resource_server.binding",
        "resource_server.discovery",
        "resource_server.profiles",
        "resource_server.signature",
        "sources.xfcc",
    ],
    [
        "cli.configuration",
        "paths",
        "policy.identities",
        "records",
        "resource_server.opaque",
        "resource_server.revocations",
        "resource_server.signed",
        "sources.server",
        "testing.environ",
        "testing.issued",
        "token_endpoint.registered",
        "validation.store",
        "wsgi_server",
    ],
    [
        "policy",
        "cli.proxy_config",
        "cli.revocations",
        "resource_server.issuers",
        "integrations.telemetry",
        "environ",
        "resource_server.revocable",
        "resource_flow",
        "servers.cheroot_tls",
        "sources.trust",
        "testing.template",
        "token_endpoint.clients",
        "token_endpoint.metadata",
        "validation.spiffe_bundles",
    ],
    [
        "accessors",
        "scope",
        "integrations.openapi",
        "integrations.route_scopes",
        "resource_server",
        "sources.header",
        "testing.authority",
        "token_endpoint.authentication",
        "validation",
    ],
    [
        "",
        "integrations.django_routes",
        "integrations.flask_routes",
        "integrations.starlette_routes",
        "sources.products",
        "testing.tokens",
        "token_endpoint.issuance",
        "token_flow",
    ],
    [
        "asgi",
        "cli.inspect_certificate",
        "cli.traps",
        "integrations.fastapi_routes",
        "integrations.registry",
        "sources",
        "testing",
        "token_endpoint",
        "wsgi",
    ],
    ["cli.doctor", "integrations.authlib_server", "integrations.django_toolkit", "servers.extension", "testing.plugin"],
    ["servers.daphne_tls", "servers.gunicorn_asgi", "servers.hypercorn_tls", "servers.uvicorn_tls"],
    ["cli.main"],
]
FLOOR = {name: number for number, names in enumerate(FLOORS) for name in names}


def modules() -> dict[str, Path]:
    found = {}
    for path in ROOT.rglob("*.py"):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(path: Path) -> set[str]:
    """What of the package a file imports, anywhere in it."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "mtls_middleware":
            below = (node.module or "").partition(".")[2]
            for each in node.names:
                whole = f"{below}.{each.name}".strip(".")
                names.add(whole if whole in FLOOR else below)
        elif isinstance(node, ast.Import):
            names |= {each.name.partition(".")[2] for each in node.names if each.name.startswith("mtls_middleware")}
    return names


def test_every_file_has_a_floor():
    assert modules().keys() == FLOOR.keys()


def test_a_file_imports_only_from_floors_below():
    wrong = [
        f"{name} imports {each}"
        for name, path in modules().items()
        for each in imports(path)
        if FLOOR[each] >= FLOOR[name]
    ]
    assert not wrong


def test_no_file_is_two_rooms():
    long = {name: size for name, path in modules().items() if (size := len(path.read_text("utf-8").splitlines())) > 350}
    assert not long


def test_names_are_exported_by_literal_lists():
    for name, path in modules().items():
        if path.name == "__init__.py":
            tree = ast.parse(path.read_text("utf-8"))
            kinds = {type(node) for node in tree.body[1:]}
            assert kinds <= {ast.ImportFrom, ast.Assign}, f"{name} has logic"
            exported = [node for node in tree.body if isinstance(node, ast.Assign)]
            assert all(len(ast.literal_eval(node.value)) <= 16 for node in exported)
