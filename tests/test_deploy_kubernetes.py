"""The manifests for Kubernetes: least rights, nothing kept twice by hand, and what kustomize needs to find is there."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys

import pytest
import yaml

from tests.kubernetes import KUBERNETES, KUSTOMIZATIONS, ROOT, container, load, manifests, one
from tests.test_systemd import UNIT
from wg_exporter import __version__
from wg_exporter.catalogue import METRICS
from wg_exporter.config import parse

UNKNOWN = {"configMapGenerator", "images", "namespace", "apiVersion", "kind", "resources", "patches", "components"}
CLIENT_SIDE = 262_144  # bytes of all annotations; `kubectl apply` keeps the whole resource in one
NAMES = [metric.name for metric in METRICS]


def pod() -> dict:
    return one("DaemonSet")["spec"]["template"]["spec"]


def generate(root, *arguments):
    return subprocess.run(
        [sys.executable, root / "deploy/kubernetes/generate.py", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


# What the pod may do


def test_the_pod_has_the_capabilities_of_the_systemd_unit_and_no_others():
    line = re.search(r"^CapabilityBoundingSet=(.*)$", UNIT.read_text(), re.MULTILINE)[1]
    rights = container()["securityContext"]
    assert rights["capabilities"]["drop"] == ["ALL"]
    assert {f"CAP_{name}" for name in rights["capabilities"]["add"]} == set(line.split())


def test_the_pod_can_get_no_more_rights_and_write_nowhere_but_its_socket():
    rights = container()["securityContext"]
    assert (rights["privileged"], rights["allowPrivilegeEscalation"], rights["readOnlyRootFilesystem"]) == (
        False,
        False,
        True,
    )
    assert pod()["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod()["automountServiceAccountToken"] is False
    assert not {"hostPID", "hostIPC"} & pod().keys()
    writable = {mount["name"] for mount in container()["volumeMounts"] if not mount.get("readOnly")}
    assert writable == {"run"}
    assert [volume["name"] for volume in pod()["volumes"] if "emptyDir" in volume] == ["run"]


def test_what_is_mounted_of_the_host_is_made_only_where_its_mode_is_no_secret():
    hosts = {
        volume["hostPath"]["path"]: volume["hostPath"]["type"] for volume in pod()["volumes"] if "hostPath" in volume
    }
    assert hosts == {"/var/run/wireguard": "DirectoryOrCreate", "/etc/wireguard": "Directory"}


def test_every_mount_has_its_volume_and_every_volume_its_mount():
    mounts = [mount["name"] for mount in container()["volumeMounts"]]
    assert sorted(mounts) == sorted(volume["name"] for volume in pod()["volumes"])


def test_the_namespace_says_which_pods_it_admits():
    labels = one("Namespace")["metadata"]["labels"]
    assert {labels[f"pod-security.kubernetes.io/{mode}"] for mode in ("enforce", "audit", "warn")} == {"privileged"}


# What it does


def test_it_listens_at_the_address_of_the_node_alone_and_is_asked_there():
    assert "--web.listen-address=$(NODE_ADDRESS):9586" in container()["args"]
    (variable,) = container()["env"]
    assert variable["valueFrom"]["fieldRef"]["fieldPath"] == "status.hostIP"
    (port,) = container()["ports"]
    assert port["containerPort"] == port["hostPort"] == 9586
    probes = {name: container()[name]["httpGet"] for name in ("startupProbe", "livenessProbe", "readinessProbe")}
    assert {probe["port"] for probe in probes.values()} == {port["name"]}
    assert [probe["path"] for probe in probes.values()] == ["/-/healthy", "/-/healthy", "/-/ready"]


def test_its_flags_are_flags_of_serve():
    from tests.test_docs import check_flags

    check_flags([argument.replace("$(NODE_ADDRESS)", "192.0.2.1") for argument in container()["args"]])


def test_the_configuration_of_the_base_is_one_of_the_exporter():
    parse((KUBERNETES / "base/config.yml").read_text(), "config.yml", NAMES)


def test_memory_is_limited_and_cpu_is_not():
    resources = container()["resources"]
    assert resources["requests"].keys() == {"cpu", "memory"}
    assert resources["limits"].keys() == {"memory"}


# How it is found


def test_the_pod_monitor_finds_the_pods_and_gives_the_labels_of_any_other_scrape():
    spec = one("PodMonitor")["spec"]
    assert spec["selector"]["matchLabels"] == one("DaemonSet")["spec"]["selector"]["matchLabels"]
    assert spec["selector"]["matchLabels"].items() <= one("DaemonSet")["spec"]["template"]["metadata"]["labels"].items()
    (endpoint,) = spec["podMetricsEndpoints"]
    assert endpoint["port"] == container()["ports"][0]["name"]
    relabelled = {rule.get("targetLabel"): rule for rule in endpoint["relabelings"]}
    assert relabelled["job"]["replacement"] == "wireguard"
    assert relabelled["instance"]["replacement"] == "$1:9586"
    dropped = {rule["regex"] for rule in endpoint["relabelings"] if rule["action"] == "labeldrop"}
    assert dropped == {"pod|container|endpoint"}


def test_the_rules_are_the_shipped_ones():
    assert one("PrometheusRule")["spec"] == yaml.safe_load((ROOT / "alerts/wireguard.rules.yml").read_text())


@pytest.mark.parametrize("name", ["fleet", "host", "peer"])
def test_a_dashboard_is_the_shipped_one_and_fits(name):
    path = KUBERNETES / f"monitoring/dashboard-{name}.yaml"
    (document,) = load(path.read_text())
    assert document["metadata"]["labels"]["grafana_dashboard"] == "1"
    (text,) = document["data"].values()
    assert text == (ROOT / f"dashboards/{name}.json").read_text()
    assert len(json.dumps(document).encode()) < CLIENT_SIDE


def test_every_dashboard_is_there():
    shipped = {path.stem for path in (ROOT / "dashboards").glob("*.json")}
    assert {path.stem.removeprefix("dashboard-") for path in (KUBERNETES / "monitoring").glob("dashboard-*")} == shipped


# Files


def test_what_is_generated_is_fresh():
    done = generate(ROOT, "--check")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    "name", ["base/kustomization.yaml", "monitoring/prometheusrule.yaml", "monitoring/dashboard-peer.yaml"]
)
def test_what_is_stale_is_noticed_and_made_fresh(name, tmp_path):
    for part in ("wg_exporter", "alerts", "dashboards", "docs"):
        (tmp_path / part).symlink_to(ROOT / part)
    shutil.copytree(KUBERNETES, tmp_path / "deploy/kubernetes")
    page = tmp_path / "deploy/kubernetes" / name
    good = page.read_text()
    page.write_text(good.replace(__version__, "9.9.9") if name.startswith("base") else good[:-20])
    assert page.read_text() != good
    stale = generate(tmp_path, "--check")
    assert stale.returncode == 1
    assert f"{name} is stale" in stale.stderr
    assert generate(tmp_path).returncode == 0
    assert page.read_text() == good


@pytest.mark.parametrize("path", KUSTOMIZATIONS, ids=lambda path: path.parent.name)
def test_a_kustomization_names_what_is_there_and_leaves_nothing_out(path):
    document = yaml.safe_load(path.read_text())
    assert document.keys() <= UNKNOWN
    component = document["kind"] == "Component"
    assert document["apiVersion"] == f"kustomize.config.k8s.io/v1{'alpha1' if component else 'beta1'}"
    for name in [*document.get("resources", ()), *document.get("components", ())]:
        found = (path.parent / name).resolve()
        assert found.is_file() or (found / "kustomization.yaml").is_file(), name
        # kustomize refuses a directory that holds the one that names it.
        assert not path.resolve().is_relative_to(found), name
    for generator in document.get("configMapGenerator", ()):
        assert all((path.parent / name).is_file() for name in generator["files"])
    beside = {other.name for other in path.parent.glob("*.yaml")} - {path.name}
    assert beside <= set(document.get("resources", ())) | {"config.yml"}


def test_the_config_map_of_the_pod_is_the_one_that_is_made():
    (generator,) = yaml.safe_load((KUBERNETES / "base/kustomization.yaml").read_text())["configMapGenerator"]
    (volume,) = [volume["configMap"]["name"] for volume in pod()["volumes"] if "configMap" in volume]
    assert volume == generator["name"]


def test_all_have_a_name_of_the_field_and_a_label_to_be_found_by():
    for manifest in manifests():
        assert manifest["metadata"]["labels"]["app.kubernetes.io/name"] == "wg-exporter", manifest["kind"]
