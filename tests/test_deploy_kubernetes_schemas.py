"""The manifests against the schemas of Kubernetes and of prometheus-operator, rendered by kustomize as users do it.

The schemas are 100 MB, so they are in an environment of their own, made once under .cache.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
import yaml

from tests.kubernetes import KUBERNETES, ROOT, container, kustomize, one
from tests.surroundings import OUTSIDE, outside

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.slow

NEEDED = ("kubernetes-validate>=1.37,<2", "cloudcoil-models-prometheus-operator>=0.80,<1")
VERSIONS = ("1.28", "1.32", "1.37")
CHECK = """
import json, sys
import kubernetes_validate
from cloudcoil.models.prometheus_operator import v1

# The models ignore a key that they don't know; what is left after a round trip shows it.
def unknown(ours, theirs, at=""):
    if isinstance(ours, dict):
        for key, value in ours.items():
            if key not in theirs:
                yield f"{at}.{key}: no such key"
            else:
                yield from unknown(value, theirs[key], f"{at}.{key}")
    elif isinstance(ours, list):
        for number, pair in enumerate(zip(ours, theirs, strict=True)):
            yield from unknown(*pair, f"{at}[{number}]")

versions = sys.argv[1:]
for manifest in json.load(sys.stdin):
    if manifest["apiVersion"] == "monitoring.coreos.com/v1":
        model = getattr(v1, manifest["kind"]).model_validate(manifest)
        wrong = list(unknown(manifest, model.model_dump(mode="json", by_alias=True)))
        if wrong:
            sys.exit(f"{manifest['kind']}: {wrong}")
    else:
        for version in versions:
            kubernetes_validate.validate(manifest, version, strict=True)
    print(manifest["kind"])
"""


@pytest.fixture(scope="module")
def python() -> Path:
    directory = ROOT / ".cache/kubernetes"
    stamp = directory / "ready"
    if not stamp.exists() or stamp.read_text() != "\n".join(NEEDED):
        shutil.rmtree(directory, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", directory], check=True, timeout=120)
        command = [str(directory / "bin/pip"), "install", "--quiet", *NEEDED]
        subprocess.run(outside(command), env=OUTSIDE, check=True, timeout=900)
        stamp.write_text("\n".join(NEEDED))
    return directory / "bin/python"


def check(python: Path, documents: list[dict]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [python, "-c", CHECK, *VERSIONS],
        input=json.dumps(documents),
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def overlay(tmp_path: Path, *components: str) -> list[dict]:
    """The example with these components, as a user writes it."""
    copy = shutil.copytree(KUBERNETES, tmp_path / "kubernetes")
    path = copy / "example/kustomization.yaml"
    document = yaml.safe_load(path.read_text())
    document["components"] = [f"../components/{name}" for name in components]
    path.write_text(yaml.safe_dump(document))
    return kustomize(path.parent)


@pytest.mark.parametrize("name", [".", "base", "monitoring", "example"])
def test_what_kustomize_makes_is_valid(python: Path, name: str) -> None:
    documents = kustomize(KUBERNETES / name)
    done = check(python, documents)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.split()) == len(documents)
    assert {document["metadata"].get("namespace", "wireguard") for document in documents} == {"wireguard"}


@pytest.mark.parametrize(
    ("kind", "wrong"),
    [
        ("DaemonSet", lambda it: it["spec"]["template"]["spec"].update(hostNetwrok=True)),
        ("PodMonitor", lambda it: it["spec"]["podMetricsEndpoints"][0].update(intervall="15s")),
        ("PodMonitor", lambda it: it["spec"]["podMetricsEndpoints"][0]["relabelings"][0].update(action="renew")),
        ("PrometheusRule", lambda it: it["spec"]["groups"][0]["rules"][0].update({"for": "2 minutes"})),
    ],
    ids=["a key of the pod", "a key of the monitor", "an action", "a duration"],
)
def test_what_is_wrong_is_found(python: Path, kind: str, wrong) -> None:
    document = one(kind)
    wrong(document)
    assert check(python, [document]).returncode != 0


def test_the_component_for_nodes_without_files_takes_out_the_mount_and_its_volume(python: Path, tmp_path: Path) -> None:
    documents = overlay(tmp_path, "no-files")
    assert check(python, documents).returncode == 0
    assert "/etc/wireguard" not in {mount["mountPath"] for mount in container(documents)["volumeMounts"]}
    assert "wireguard-files" not in json.dumps(documents)


def test_the_component_for_tls_changes_the_pod_and_its_monitor(python: Path, tmp_path: Path) -> None:
    documents = overlay(tmp_path, "tls")
    done = check(python, documents)
    assert done.returncode == 0, done.stderr
    assert "--web.config.file=/etc/wg-exporter-web/web.yml" in container(documents)["args"]
    # The kubelet speaks no password.
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        assert container(documents)[probe].keys() >= {"tcpSocket"}
        assert "httpGet" not in container(documents)[probe]
    (endpoint,) = one("PodMonitor", documents)["spec"]["podMetricsEndpoints"]
    assert (endpoint["scheme"], endpoint["basicAuth"]["password"]["name"]) == ("https", "wg-exporter-web")


def test_an_overlay_names_the_image(tmp_path: Path) -> None:
    assert container(overlay(tmp_path))["image"].startswith("registry.example.org/network/wg-exporter:")
    assert container(kustomize(KUBERNETES))["image"].startswith("registry.example.net/wg-exporter:")
