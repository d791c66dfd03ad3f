"""Write the alert rules and the dashboards as resources of Kubernetes. With `--check`, only compare.

kustomize reads no file outside of the directory of a kustomization, so the rules (alerts/) and the dashboards have to
be there a second time. This writes them, so that nobody keeps them twice. The tag of the image is the version of the
package.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import yaml

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(ROOT / "docs"))

from generating import run_all  # noqa: E402

from wg_exporter import __version__  # noqa: E402

BY = "# Written by deploy/kubernetes/generate.py from {}. Do not edit by hand.\n"
LABELS = {"app.kubernetes.io/name": "wg-exporter"}
DASHBOARDS = ("fleet", "host", "peer")


class Dumper(yaml.SafeDumper):
    """Texts of several lines as they are read, and no aliases, which not every reader of resources resolves."""

    def ignore_aliases(self, data: Any) -> bool:
        """Write each value in full."""
        del data
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text.strip("\n") else None)


Dumper.add_representer(str, _text)


def resource(source: Path, document: dict[str, Any]) -> str:
    """One resource as YAML, with where it is from."""
    text = yaml.dump(document, Dumper=Dumper, sort_keys=False, allow_unicode=True, width=1000)
    return BY.format(source.relative_to(ROOT)) + text


def rules() -> str:
    """The shipped rules as a PrometheusRule."""
    source = ROOT / "alerts/wireguard.rules.yml"
    return resource(
        source,
        {
            "apiVersion": "monitoring.coreos.com/v1",
            "kind": "PrometheusRule",
            "metadata": {"name": "wg-exporter", "labels": LABELS},
            "spec": yaml.safe_load(source.read_text()),
        },
    )


def dashboard(name: str) -> str:
    """A dashboard as a ConfigMap, found by Grafana's sidecar by its label."""
    source = ROOT / f"dashboards/{name}.json"
    return resource(
        source,
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {
                "name": f"wg-exporter-dashboard-{name}",
                "labels": LABELS | {"grafana_dashboard": "1"},
                "annotations": {"grafana_folder": "WireGuard"},
            },
            "data": {f"wireguard-{name}.json": source.read_text()},
        },
    )


def base() -> str:
    """The kustomization of the base, written by hand but for the tag of the image."""
    text = (HERE / "base/kustomization.yaml").read_text()
    return re.sub(r'(?m)^(    newTag: )"[^"]*"', rf'\g<1>"{__version__}"', text)


def pages() -> dict[Path, str]:
    """What each file has to hold."""
    found = {"base/kustomization.yaml": base(), "monitoring/prometheusrule.yaml": rules()}
    found |= {f"monitoring/dashboard-{name}.yaml": dashboard(name) for name in DASHBOARDS}
    return {HERE / name: text for name, text in found.items()}


if __name__ == "__main__":
    sys.exit(run_all(pages, __doc__))
