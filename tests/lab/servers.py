"""Programs of the Prometheus family, each on a loopback port of its own, and their HTTP APIs.

with prometheus(directory, {"scrape_configs": [...]}) as server:
    server.query("up")
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import subprocess
import urllib.parse
from typing import TYPE_CHECKING, Any

import yaml

from tests.lab import eventually, free_port

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

PATIENCE = 90  # seconds to start; it takes one or two, and twenty under emulation
STOP_TIMEOUT = 20


class Server:
    """A running program with an HTTP API."""

    def __init__(self, process: subprocess.Popen[bytes], port: int, log: Path) -> None:
        self.process = process
        self.port = port
        self._log = log

    def api(self, path: str, **parameters: str) -> Any:
        """The `data` of an answer of the API; raises OSError while it does not listen."""
        answer = json.loads(self._get(f"/api/v1/{path}?{urllib.parse.urlencode(parameters)}"))
        assert answer["status"] == "success", f"{parameters}: {answer}"
        return answer["data"]

    def query(self, expression: str) -> list[tuple[dict[str, str], float]]:
        """The labels and values of an instant vector, of a Prometheus."""
        return [(row["metric"], float(row["value"][1])) for row in self.api("query", query=expression)["result"]]

    def log(self) -> str:
        return self._log.read_text()

    def ready(self) -> bool:
        assert self.process.poll() is None, self.log()
        with contextlib.suppress(OSError, AssertionError):  # not listening yet, or not ready
            self._get("/-/ready")
            return True
        return False

    def _get(self, path: str) -> bytes:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        with contextlib.closing(connection):
            connection.request("GET", path)
            response = connection.getresponse()
            body = response.read()
        assert response.status == 200, body
        return body


@contextlib.contextmanager
def prometheus(directory: Path, settings: Mapping[str, object], *options: str) -> Iterator[Server]:
    """A Prometheus with this configuration; its paths are relative to the directory."""
    config = directory / "prometheus.yml"
    config.write_text(yaml.safe_dump(settings))
    command = ["prometheus", f"--config.file={config}", f"--storage.tsdb.path={directory / 'prometheus'}", *options]
    with running(command, directory / "prometheus.log") as server:
        yield server


@contextlib.contextmanager
def running(command: Sequence[str], log: Path, kind: type[Server] = Server) -> Iterator[Server]:
    """A program that is told its address as all of the family are, once it is ready; ended in the end. `kind` is how it
    is asked.
    """
    port = free_port()
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*command, f"--web.listen-address=127.0.0.1:{port}"],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env={**os.environ, "GOMAXPROCS": "1"},
        )
    server = kind(process, port, log)
    try:
        eventually(server.ready, within=PATIENCE, every=0.1)
        yield server
    finally:
        process.terminate()
        process.wait(STOP_TIMEOUT)
