"""Write the dashboards, as the JSON that Grafana loads. With `--check`, only compare.

They are made by Python, so that what all of them have in common stands once, and so that they can be read and reviewed;
the JSON beside this script is what one imports or provisions.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import fleet
import host
import peer

HERE = Path(__file__).resolve().parent
PAGES = {"fleet.json": fleet.dashboard, "host.json": host.dashboard, "peer.json": peer.dashboard}


def main() -> int:
    """The exit code: 1 if something is stale."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if a dashboard is stale")
    check = parser.parse_args().check
    stale = False
    for name, dashboard in PAGES.items():
        page = HERE / name
        text = json.dumps(dashboard(), indent=2, ensure_ascii=False) + "\n"
        if not check:
            page.write_text(text)
        elif not page.exists() or page.read_text() != text:
            sys.stderr.write(f"{page} is stale: run `make docs`\n")
            stale = True
    return int(stale)


if __name__ == "__main__":
    sys.exit(main())
