"""docker/k8s: checked against the schemas of Kubernetes, and for consistency."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from service.config import Settings
from tests.deployment.test_compose import DOCKERFILE, SERVICES

K8S = Path(__file__).parents[2] / "docker" / "k8s"
VERSION = "1.31"

Document = dict[str, Any]


def read(path: Path) -> list[Document]:
    return [document for document in yaml.safe_load_all(path.read_text(encoding="utf-8")) if document]


def resources(folder: str) -> Iterator[Document]:
    """Return the resources of a kustomization, including those of its bases."""
    [kustomization] = read(K8S / folder / "kustomization.yaml")
    for name in kustomization["resources"]:
        path = K8S / folder / name
        yield from resources(f"{folder}/{name}") if path.is_dir() else read(path)


def patched(base: Any, patch: Any) -> Any:
    """Apply a strategic merge patch: mappings are merged, lists of named entries by name, and null removes."""
    if isinstance(base, dict) and isinstance(patch, dict):
        merged = base | {key: patched(base.get(key), value) for key, value in patch.items()}
        return {key: value for key, value in merged.items() if value is not None}
    if isinstance(base, list) and isinstance(patch, list) and all("name" in entry for entry in base):
        named = {entry["name"]: entry for entry in base}
        return [*(named | {entry["name"]: patched(named.get(entry["name"]), entry) for entry in patch}).values()]
    return patch


def gpu() -> list[Document]:
    """Return the resources of the overlay."""
    [kustomization] = read(K8S / "gpu" / "kustomization.yaml")
    patches = [document for entry in kustomization["patches"] for document in read(K8S / "gpu" / entry["path"])]
    by_name = {(document["kind"], document["metadata"]["name"]): document for document in patches}
    found = list(resources("gpu"))
    assert set(by_name) <= {(document["kind"], document["metadata"]["name"]) for document in found}
    return [patched(d, by_name.get((d["kind"], d["metadata"]["name"]), {})) for d in found]


BASE = list(resources("base"))
ALL = [(folder, document) for folder, documents in (("base", BASE), ("gpu", gpu())) for document in documents]


def find(kind: str, name: str = "posewire") -> Document:
    [found] = [d for d in BASE if (d["kind"], d["metadata"]["name"]) == (kind, name)]
    return found


@pytest.mark.parametrize(
    "document", [pytest.param(d, id=f"{folder}-{d['kind']}-{d['metadata']['name']}") for folder, d in ALL]
)
def test_resources_match_the_schemas(document: Document) -> None:
    kubernetes_validate.validate(document, VERSION, strict=True)


def test_selectors_match_the_right_pods() -> None:
    pods = find("Deployment")["spec"]["template"]["metadata"]["labels"]
    redis = find("Deployment", "posewire-redis")["spec"]["template"]["metadata"]["labels"]
    assert find("Service")["spec"]["selector"] == pods
    assert find("Service", "posewire-replicas")["spec"]["selector"] == pods
    assert find("PodDisruptionBudget")["spec"]["selector"]["matchLabels"] == pods
    assert find("NetworkPolicy")["spec"]["podSelector"]["matchLabels"] == pods
    assert find("Service", "posewire-redis")["spec"]["selector"] == redis
    assert find("NetworkPolicy", "posewire-redis")["spec"]["podSelector"]["matchLabels"] == redis


def test_only_the_autoscaler_sets_the_number_of_replicas_and_reads_the_metric_of_the_adapter() -> None:
    scaler = find("HorizontalPodAutoscaler")["spec"]
    [adapter] = read(K8S / "adapter.yaml")
    assert "replicas" not in find("Deployment")["spec"]
    assert scaler["scaleTargetRef"]["name"] == "posewire"
    assert scaler["metrics"][0]["pods"]["metric"]["name"] == adapter["rules"][0]["name"]["as"]


def test_the_settings_of_replicas_exist_and_they_have_time_to_drain() -> None:
    spec = find("Deployment")["spec"]["template"]["spec"]
    environment = {entry["name"]: entry["value"] for entry in spec["containers"][0]["env"]}
    assert environment.keys() <= {f"POSEWIRE_{name}".upper() for name in Settings.model_fields} | {"POSEWIRE_SECRETS"}
    times = sum(float(environment[f"POSEWIRE_{part}_SECONDS"]) for part in ("DRAIN", "GRACE"))
    assert times + 3 < spec["terminationGracePeriodSeconds"]
    probe = spec["containers"][0]["readinessProbe"]
    assert probe["periodSeconds"] * probe["failureThreshold"] < float(environment["POSEWIRE_DRAIN_SECONDS"]) + 3
    assert environment["POSEWIRE_REDIS_URL"] == "redis://posewire-redis:6379/0"


def test_no_service_adds_settings_to_the_environment() -> None:
    """Kubernetes adds variables of every Service to pods: of `posewire`, POSEWIRE_PORT=tcp://10.0.0.1:80 and others."""
    links = {f"{d['metadata']['name'].upper().replace('-', '_')}_PORT" for d in BASE if d["kind"] == "Service"}
    assert links & {f"POSEWIRE_{name}".upper() for name in Settings.model_fields}
    assert find("Deployment")["spec"]["template"]["spec"]["enableServiceLinks"] is False


def test_pods_run_the_image_with_minimal_rights() -> None:
    spec = find("Deployment")["spec"]["template"]["spec"]
    [container] = spec["containers"]
    assert (
        f"USER {spec['securityContext']['runAsUser']}:{spec['securityContext']['runAsGroup']}"
        in DOCKERFILE.read_text("utf-8")
    )
    assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in spec["volumes"]}
    for folder, tag in (("base", "cpu"), ("gpu", "gpu")):
        [kustomization] = read(K8S / folder / "kustomization.yaml")
        image = kustomization["images"][0]
        assert (image["name"], f"{image['newName']}:{image['newTag']}") == (container["image"], f"posewire:{tag}")
        assert f"AS {tag}\n" in DOCKERFILE.read_text("utf-8")


def test_redis_is_the_same_as_in_compose() -> None:
    [container] = find("Deployment", "posewire-redis")["spec"]["template"]["spec"]["containers"]
    assert (container["image"], container["args"]) == (SERVICES["redis"]["image"], SERVICES["redis"]["command"])


def test_the_overlay_asks_for_a_gpu_and_keeps_plans() -> None:
    [deployment] = [d for d in gpu() if (d["kind"], d["metadata"]["name"]) == ("Deployment", "posewire")]
    spec = deployment["spec"]["template"]["spec"]
    assert spec["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == "1"
    [tmp] = [volume["emptyDir"] for volume in spec["volumes"] if volume["name"] == "tmp"]
    assert tmp["medium"] != "Memory", "plans are built there, of graphs of hundreds of megabytes"
    assert {"name": "plans", "persistentVolumeClaim": {"claimName": "posewire-plans"}} in spec["volumes"]
    mounts = {mount["name"]: mount["mountPath"] for mount in spec["containers"][0]["volumeMounts"]}
    assert (mounts["plans"], mounts["compiled"]) == ("/models/plans", "/models/compiled")
