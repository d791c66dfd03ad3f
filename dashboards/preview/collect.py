"""Ask for what the dashboards show: `python dashboards/preview/collect.py OUT`, after `network.py OUT`.

A Prometheus is started on OUT/data for it, and gone afterwards. The answers go to OUT/answers.json, beside the
dashboards themselves, for `page.jsx` to draw.
"""

from __future__ import annotations

import http.client
import json
import socket
import subprocess
import sys
import time
import urllib.parse
from pathlib import Path
from typing import Any

DASHBOARDS = Path(__file__).resolve().parents[1]
STEP = 5  # seconds between points, and between scrapes
CHOICES = {
    "fleet": {},
    "host": {"instance": "gw-berlin:9586"},
    "peer": {"instance": "gw-berlin:9586", "peer": "branch"},
}
EVERYTHING = {"job": ".+", "instance": ".+", "interface": ".+", "peer": ".+"}

Json = dict[str, Any]


class Prometheus:
    """One to ask, at a host and port, as if the time were `now`, and of what was since `begin`."""

    def __init__(self, address: str) -> None:
        self._address = address
        self.begin = self.now = float("nan")

    def api(self, path: str, **parameters: str) -> Any:
        """The `data` of an answer."""
        connection = http.client.HTTPConnection(self._address, timeout=60)
        connection.request("GET", f"/api/v1/{path}?{urllib.parse.urlencode(parameters)}")
        answer = json.loads(connection.getresponse().read())
        if answer["status"] != "success":
            raise ValueError(f"{parameters}: {answer}")
        return answer["data"]

    def ask(self, target: Json, values: dict[str, str], step: int) -> Any:
        """The series of a query, with `step` seconds between points."""
        expr = target["expr"]
        for name in sorted(values, key=len, reverse=True):
            expr = expr.replace(f"${name}", values[name])
        if target["instant"]:
            return self.api("query", query=expr, time=str(self.now))["result"]
        span = {"start": str(self.begin), "end": str(self.now), "step": str(step)}
        return self.api("query_range", query=expr, **span)["result"]


def collect(prometheus: Prometheus) -> Json:
    """Every dashboard with the answers to its queries."""
    (last,) = prometheus.api("query", query="max(max_over_time(timestamp(up)[1d:5s]))")["result"]
    (first,) = prometheus.api("query", query="min(min_over_time(timestamp(up)[1d:5s]))")["result"]
    prometheus.begin, prometheus.now = float(first["value"][1]), float(last["value"][1])
    pages = []
    for name, choice in CHOICES.items():
        page = json.loads((DASHBOARDS / f"{name}.json").read_text())
        values = {**EVERYTHING, **choice, "__range": f"{round(prometheus.now - prometheus.begin)}s"}
        if values["peer"] != ".+":
            which = f'wireguard_peer_expected_up{{peer="{values["peer"]}"}}'
            (peer,) = prometheus.api("query", query=which, time=str(prometheus.now))["result"]
            values["peer"] = peer["metric"]["public_key"].replace("+", "\\\\+")
        answers = {
            panel["id"]: {target["refId"]: _ask(prometheus, panel, target, values) for target in panel["targets"]}
            for panel in page["panels"]
            if panel["type"] != "row"
        }
        pages.append({"name": name, "page": page, "choice": choice, "answers": answers})
    return {"now": prometheus.now, "from": prometheus.begin, "pages": pages}


def _ask(prometheus: Prometheus, panel: Json, target: Json, values: dict[str, str]) -> Any:
    step = 60 if panel.get("interval") == "1m" else STEP
    return prometheus.ask(target, {**values, "__rate_interval": f"{max(4 * STEP, step + STEP)}s"}, step)


def main(out: Path, address: str) -> None:
    """Asks a Prometheus that runs at `address`, or else one of our own."""
    if address:
        answers = collect(Prometheus(address))
    else:
        config = out / "empty.yml"
        config.write_text("{}")
        with socket.socket() as sock:
            sock.bind(("127.0.0.1", 0))
            address = f"127.0.0.1:{sock.getsockname()[1]}"
        command = ["prometheus", f"--config.file={config}", f"--storage.tsdb.path={out / 'data'}"]
        process = subprocess.Popen([*command, f"--web.listen-address={address}"], stderr=subprocess.DEVNULL)
        try:
            for _ in range(100):
                time.sleep(0.2)
                with socket.socket() as sock:
                    if sock.connect_ex(("127.0.0.1", int(address.rpartition(":")[2]))) == 0:
                        break
            time.sleep(1)
            answers = collect(Prometheus(address))
        finally:
            process.terminate()
            process.wait(20)
    (out / "answers.json").write_text(json.dumps(answers))


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve(), sys.argv[2] if len(sys.argv) > 2 else "")
