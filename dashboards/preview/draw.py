"""Draw docs/dashboards/*.png from OUT/answers.json: `python dashboards/preview/draw.py OUT`, after `collect.py OUT`.

It takes node with the packages of package.json (`npm install --ignore-scripts --legacy-peer-deps` in this directory)
and chromium. The pictures show real data, drawn with the parts of Grafana that are published as libraries. They are
previews, and no screenshots of Grafana.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
PICTURES = HERE.parents[1] / "docs" / "dashboards"
WIDTH = 1600
CELL = 38  # pixels of a line of the grid
BUNDLE = (
    "--bundle",
    "--jsx=automatic",
    "--minify",
    "--loader:.css=empty",
    '--define:process.env.NODE_ENV="production"',
)

PAGE = """\
<!doctype html><meta charset="utf-8">
<style>* {{ box-sizing: border-box }} body {{ margin: 0; background: #111217; line-height: 1.4; font-size: 14px }}
button {{ all: unset }} a {{ color: #6e9fff; text-decoration: none }} h2, h6 {{ margin: 0 }}
ul {{ list-style: none; margin: 0; padding: 0 }}</style>
<link rel="stylesheet" href="uplot.css">
<div id="root"></div><script>window.preview = {preview}</script><script src="page.js"></script>
"""


def main(out: Path) -> None:
    """Draws all of them."""
    answers = json.loads((out / "answers.json").read_text())
    modules = HERE / "node_modules"
    subprocess.run(
        [modules / ".bin" / "esbuild", HERE / "page.jsx", *BUNDLE, f"--outfile={out / 'page.js'}"], check=True
    )
    shutil.copy(modules / "uplot" / "dist" / "uPlot.min.css", out / "uplot.css")
    PICTURES.mkdir(exist_ok=True)
    for each in answers["pages"]:
        name = each["name"]
        lines = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in each["page"]["panels"])
        preview = json.dumps({"answers": answers, "which": name, "width": WIDTH}).replace("</", "<\\/")
        html = out / f"{name}.html"
        html.write_text(PAGE.format(preview=preview))
        _photograph(html, PICTURES / f"{name}.png", lines * CELL + 72)


def _photograph(html: Path, picture: Path, height: int) -> None:
    # No sandbox: chromium refuses to run as root with one, and opens nothing here but our own file.
    command = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--lang=en"]
    command += ["--virtual-time-budget=8000", f"--window-size={WIDTH},{height}", f"--screenshot={picture}"]
    subprocess.run(
        [*command, html.as_uri()],
        check=True,
        capture_output=True,
        env={"HOME": str(html.parent), "TZ": "UTC", "PATH": "/usr/bin:/bin"},
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
