"""The process around the exporter: it stops when told, listens where told, and logs lines that programs can read."""

from __future__ import annotations

import base64
import http.client
import json
import re
import signal
import socket
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from tests.lab import eventually, free_port, start_exporter
from tests.lab.exporting import Metrics, scrape, star

if TYPE_CHECKING:
    from pathlib import Path

    from tests.lab import Lab

LOGFMT = re.compile(r'[\w.-]+=(?:[^\s="\\]+|"(?:[^"\\]|\\.)*")(?: [\w.-]+=(?:[^\s="\\]+|"(?:[^"\\]|\\.)*"))*')

# Tests that need no device look at none, whatever else this host has.
NOTHING = 'interfaces: {include: ["no-such*"]}\nnames: []\n'


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_with_code_0_and_frees_the_port(tmp_path: Path, number: signal.Signals) -> None:
    with start_exporter(directory=tmp_path, config=NOTHING) as exporter:
        assert scrape(exporter).one("wireguard_exporter_devices") == 0
        # A client that keeps its connection open, as Prometheus does.
        client = http.client.HTTPConnection("127.0.0.1", exporter.port, timeout=30)
        client.request("GET", "/metrics")
        client.getresponse().read()
        begun = time.monotonic()
        exporter.process.send_signal(number)
        assert exporter.process.wait(30) == 0
        assert time.monotonic() - begun < 7.5, "or it would be killed"
        client.close()
        with socket.socket() as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind(("127.0.0.1", exporter.port))
            sock.listen()
        assert "Traceback" not in exporter.log()
        assert "level=error" not in exporter.log()
        assert exporter.log().splitlines()[-1].endswith("msg=stopping")


def test_a_port_in_use_is_one_line_and_exit_code_1() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = serve(f"--web.listen-address=127.0.0.1:{port}")
    assert done.returncode == 1
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
    assert f"127.0.0.1:{port}" in done.stderr
    assert "the port is in use" in done.stderr


def test_of_several_addresses_none_is_kept_if_one_is_taken() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        free = free_port()
        done = serve(
            f"--web.listen-address=127.0.0.1:{free}", f"--web.listen-address=127.0.0.1:{taken.getsockname()[1]}"
        )
    assert done.returncode == 1
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", free))


def test_it_listens_on_several_addresses_and_on_ipv6(tmp_path: Path) -> None:
    other = free_port()
    flag = f"--web.listen-address=[::1]:{other}"
    with start_exporter(flag, directory=tmp_path, config=NOTHING) as exporter:
        first = scrape(exporter)
        client = http.client.HTTPConnection("::1", other, timeout=30)
        client.request("GET", "/metrics")
        answer = client.getresponse()
        assert answer.status == 200
        assert Metrics(answer.read().decode()).lasting().keys() == first.lasting().keys()
        client.close()
        assert exporter.logged(f"address=127.0.0.1:{exporter.port} path=/metrics")
        assert exporter.logged(f"address=[::1]:{other} path=/metrics")


def test_the_telemetry_path_moves_with_all_that_is_below_it(tmp_path: Path) -> None:
    with start_exporter("--web.telemetry-path=/wg", directory=tmp_path, config=NOTHING) as exporter:
        assert scrape(exporter, "/wg").one("wireguard_exporter_devices") == 0
        assert exporter.get("/wg/mindflavor").status == 200
        assert exporter.get("/metrics").status == 404
        assert 'href="./wg"' in exporter.get("/").text


def test_a_bad_configuration_is_a_line_for_each_problem_and_exit_code_2(tmp_path: Path) -> None:
    path = tmp_path / "bad.yml"
    path.write_text("metrics: {endpoint: sometimes}\ninterfacez: {}\n")
    done = serve(f"--config.file={path}")
    assert done.returncode == 2
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    assert len(lines) == 2
    assert all(line.startswith(str(path)) for line in lines)
    assert "listening" not in done.stderr


def test_log_lines_are_logfmt(tmp_path: Path) -> None:
    with start_exporter("--log.level=debug", directory=tmp_path, config=NOTHING) as exporter:
        exporter.reload()
        eventually(lambda: "configuration reloaded" in exporter.log(), within=30)
        exporter.stop()
        lines = exporter.log().splitlines()
    assert len(lines) >= 4
    assert [line for line in lines if not LOGFMT.fullmatch(line)] == []
    assert all(re.match(r"ts=\S+Z level=(debug|info|warn|error) msg=", line) for line in lines)


def test_log_lines_are_json(tmp_path: Path) -> None:
    with start_exporter("--log.format=json", directory=tmp_path, config=NOTHING) as exporter:
        exporter.reload()
        eventually(lambda: "configuration reloaded" in exporter.log(), within=30)
        exporter.stop()
        events = [json.loads(line) for line in exporter.log().splitlines()]
    assert {"listening", "configuration reloaded", "stopping"} <= {event["msg"] for event in events}
    assert all({"ts", "level", "msg"} <= event.keys() for event in events)


@pytest.mark.lab
def test_no_log_at_debug_and_no_page_holds_a_secret_key(lab: Lab, tmp_path: Path) -> None:
    network = star(lab)
    network.ping()
    secrets = network.secrets()
    # Everything that makes it speak: a file of names that is nothing but secrets, a device that dies, bad YAML.
    network.hub.conf.write_text("\n".join([*secrets, *(f"PrivateKey = {secret}" for secret in secrets)]))
    config = tmp_path / "config.yml"
    config.write_text(network.config())
    with start_exporter("--log.level=debug", directory=tmp_path, config=config) as exporter:
        exporter.logged(f"{network.hub.name}.conf:")
        said = [exporter.get(path).text for path in ("/", "/metrics", "/metrics/mindflavor", "/metrics/mdlayher", "/x")]
        assert network.keys["near"].public in said[1], "what this looks for is what could be found"
        assert network.far.process
        network.far.process.kill()
        config.write_text(network.config("".join(f"{secret}: [{secret}\n" for secret in secrets)))
        exporter.reload()
        eventually(lambda: "configuration not reloaded" in exporter.log(), within=30)
        said.append(exporter.get("/metrics").text)
        exporter.stop()
        said.append(exporter.log())
    for secret in secrets:
        raw = base64.b64decode(secret)
        shapes = (secret, secret[:-1], base64.urlsafe_b64encode(raw).decode()[:-1], raw.hex(), raw.hex().upper())
        for shape in (*shapes, repr(raw)[2:-1], secret[:16], raw.hex()[:24]):
            assert [text for text in said if shape in text] == []


def serve(*flags: str) -> subprocess.CompletedProcess[str]:
    """`wg-exporter serve` that is expected to end by itself."""
    command = [sys.executable, "-m", "wg_exporter.cli", "serve", *flags]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
