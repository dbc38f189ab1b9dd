"""samples/containers and docs/containers.md are valid: schemas, a linter, and what the files say about each other."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import compose_spec
import kubernetes_validate
import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
SAMPLES = ROOT / "samples" / "containers"
PAGE = (ROOT / "docs" / "containers.md").read_text("utf-8")
OBJECTS = {each["kind"]: each for each in yaml.safe_load_all((SAMPLES / "kubernetes.yaml").read_text("utf-8"))}
ON_PAGE = [each for block in re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL) for each in yaml.safe_load_all(block)]
COMPOSE = yaml.safe_load((SAMPLES / "compose.yaml").read_text("utf-8"))
POD = OBJECTS["Deployment"]["spec"]["template"]
BUILT_IN = {"Deployment", "Service", "NetworkPolicy"}


def container(name: str) -> Any:
    (found,) = [each for each in POD["spec"]["initContainers"] + POD["spec"]["containers"] if each["name"] == name]
    return found


def test_the_files_have_exactly_the_known_kinds() -> None:
    assert OBJECTS.keys() == BUILT_IN | {"Certificate"}
    assert [each["kind"] for each in ON_PAGE] == ["Gateway", "TLSRoute", "NetworkPolicy"]


@pytest.mark.parametrize("version", ["1.35", "1.37"])
def test_the_manifests_follow_the_schemas_of_kubernetes(version: str) -> None:
    for each in [*OBJECTS.values(), *ON_PAGE]:
        if each["kind"] in BUILT_IN:
            kubernetes_validate.validate(each, version, strict=True)


def test_a_misspelt_field_is_no_valid_manifest() -> None:
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(OBJECTS["Service"] | {"spek": {}}, "1.37", strict=True)


def test_the_compose_file_follows_the_specification() -> None:
    compose_spec.PyCompose.from_yaml((SAMPLES / "compose.yaml").read_text("utf-8")).validate()
    with pytest.raises(ValueError, match="network_node"):
        compose_spec.PyCompose.from_yaml("services: {app: {image: shop, network_node: none}}")


def test_the_linter_finds_nothing_in_the_dockerfile() -> None:
    hadolint = Path(sys.executable).with_name("hadolint")
    done = subprocess.run([hadolint, SAMPLES / "Dockerfile"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_only_the_port_of_the_proxy_accepts_connections() -> None:
    policy = OBJECTS["NetworkPolicy"]["spec"]
    assert policy["policyTypes"] == ["Ingress"]
    assert policy["podSelector"] == OBJECTS["Deployment"]["spec"]["selector"]
    assert POD["metadata"]["labels"] == policy["podSelector"]["matchLabels"] == OBJECTS["Service"]["spec"]["selector"]
    ports = [port["port"] for rule in policy["ingress"] for port in rule["ports"]]
    assert ports == ["https"] == [port["name"] for port in container("proxy")["ports"]]
    assert "ports" not in container("app")


def test_every_volume_that_is_mounted_exists_and_is_used() -> None:
    mounted = {mount["name"] for name in ("proxy-config", "proxy", "app") for mount in container(name)["volumeMounts"]}
    assert mounted == {volume["name"] for volume in POD["spec"]["volumes"]}
    (server,) = (volume for volume in POD["spec"]["volumes"] if volume["name"] == "server")
    assert server["secret"]["secretName"] == OBJECTS["Certificate"]["spec"]["secretName"]


def test_compose_and_kubernetes_have_the_same_commands_and_probes() -> None:
    command = [each.replace("shop.example", "localhost") for each in container("proxy-config")["command"]]
    assert COMPOSE["services"]["proxy-config"]["command"] == command
    assert COMPOSE["services"]["proxy"]["image"] == container("proxy")["image"]
    probe = container("app")["readinessProbe"]["exec"]["command"]
    assert COMPOSE["services"]["app"]["healthcheck"]["test"] == ["CMD", *probe]


def test_no_container_runs_as_root_or_writes_to_its_file_system() -> None:
    assert POD["spec"]["securityContext"]["runAsNonRoot"] is True
    for name in ("proxy-config", "proxy", "app"):
        assert container(name)["securityContext"]["readOnlyRootFilesystem"] is True
        assert container(name)["securityContext"]["capabilities"] == {"drop": ["ALL"]}
