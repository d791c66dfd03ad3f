"""The manifests of deploy/kubernetes as data: what a kustomization names, and what kustomize makes of it."""

from __future__ import annotations

import copy
import functools
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
KUBERNETES = ROOT / "deploy/kubernetes"
KUSTOMIZATIONS = sorted(KUBERNETES.rglob("kustomization.yaml"))

# The dashboards are long, and libyaml is ten times as fast where it is there.
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

Manifest = dict[str, Any]


def manifests() -> list[Manifest]:
    """Every resource, as it lies there; the caller's own."""
    return copy.deepcopy(_manifests())


@functools.cache
def _manifests() -> list[Manifest]:
    paths = [path for path in KUBERNETES.rglob("*.yaml") if path.name != "kustomization.yaml"]
    return [document for path in sorted(paths) for document in load(path.read_text())]


def load(text: str) -> list[Manifest]:
    """Resources of a file."""
    return list(yaml.load_all(text, Loader=LOADER))


def one(kind: str, documents: list[Manifest] | None = None) -> Manifest:
    """The only resource of a kind."""
    (found,) = [document for document in documents or manifests() if document["kind"] == kind]
    return found


def container(documents: list[Manifest] | None = None) -> dict[str, Any]:
    """The only container of the DaemonSet."""
    (found,) = one("DaemonSet", documents)["spec"]["template"]["spec"]["containers"]
    return found


def kustomize(directory: Path) -> list[Manifest]:
    """What kustomize makes of a directory; skips where no program is there that can."""
    command = next(
        ([name, *more] for name, more in (("kustomize", ["build"]), ("kubectl", ["kustomize"])) if shutil.which(name)),
        None,
    )
    if command is None:
        pytest.skip("neither kustomize nor kubectl is here: go install sigs.k8s.io/kustomize/kustomize/v5@latest")
    done = subprocess.run([*command, directory], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "deprecated" not in done.stderr
    return load(done.stdout)
