"""Write the dashboards, as the JSON that Grafana loads. With `--check`, only compare.

They are made by Python, so that what all of them have in common stands once, and so that they can be read and reviewed;
the JSON beside this script is what one imports or provisions.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import fleet
import host
import peer

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "docs"))

from generating import run_all  # noqa: E402

DASHBOARDS = {"fleet.json": fleet.dashboard, "host.json": host.dashboard, "peer.json": peer.dashboard}


def pages() -> dict[Path, str]:
    """What each file has to hold."""
    return {
        HERE / name: json.dumps(dashboard(), indent=2, ensure_ascii=False) + "\n"
        for name, dashboard in DASHBOARDS.items()
    }


if __name__ == "__main__":
    sys.exit(run_all(pages, __doc__))
