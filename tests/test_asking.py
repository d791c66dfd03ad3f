"""`show` and `mtu` ask the exporter that runs: real tunnels, a real cut, an exporter that hangs, goes or is another."""

from __future__ import annotations

import json
import os
import re
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.lab import eventually, start_exporter, tunnel
from tests.lab.exporting import scrape, until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.lab import Exporter, Lab, Tunnel

pytestmark = pytest.mark.lab

CONFIG = """\
interfaces: {{include: [{interface}]}}
names: [{file}]
expect: [{{interface: {interface}, state: up}}]
probe: {{interval: 200ms}}
"""


def run(*arguments: str, wrapper: Callable[[list[str]], list[str]] = list) -> tuple[int, str, str]:
    """(exit code, standard output, standard error)."""
    done = subprocess.run(
        wrapper([sys.executable, "-m", "wg_exporter.cli", *arguments]),
        cwd=Path(__file__).parents[1],
        env={**os.environ, "COLUMNS": "300"},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert "Traceback" not in done.stderr
    return done.returncode, done.stdout, done.stderr


def show(socket: str, *more: str) -> tuple[int, str, str]:
    return run("show", f"--socket={socket}", *more)


def shown(socket: str, *more: str) -> dict[str, object]:
    code, out, err = show(socket, "--json", *more)
    assert (code, err) == (0, "")
    return json.loads(out)


@pytest.fixture
def pair(lab: Lab) -> Tunnel:
    found = tunnel(lab)
    found.ping()
    return found


def config(pair: Tunnel) -> str:
    return CONFIG.format(interface=pair.hub.name, file=pair.hub.conf)


@pytest.fixture
def exporter(pair: Tunnel, tmp_path: Path) -> Iterator[Exporter]:
    socket = f"--web.unix-socket={tmp_path / 's'}"
    with start_exporter(socket, directory=tmp_path, config=config(pair), namespace=pair.hub.namespace) as found:
        until(found, "wireguard_peer_state", 1, state="up", within=60)
        yield found


def test_a_peer_that_is_paged_is_down_in_show_and_whoever_looks_once_says_that_he_does_not_know(
    pair: Tunnel, exporter: Exporter, tmp_path: Path
) -> None:
    socket = str(tmp_path / "s")
    assert stat.S_IMODE((tmp_path / "s").stat().st_mode) == 0o600
    eventually(lambda: shown(socket)["devices"][0]["peers"][0]["probe"]["round_trip_seconds"], within=30, every=0.5)
    # The commands run outside of the namespace and see no device themselves: all that they say, the exporter said.
    document = shown(socket)
    [peer] = document["devices"][0]["peers"]
    assert (peer["name"], peer["state"], peer["target"]) == ("spoke", "up", "10.0.0.2")
    assert 0 < peer["probe"]["round_trip_seconds"] < 1
    assert 0 <= peer["probe"]["loss_ratio"] < 1
    assert document["exporter"]["config_file"].startswith(str(tmp_path))
    code, out, _ = show(socket)
    assert code == 0
    assert "as the exporter on " in out
    assert re.search(r"spoke .* up .* \d+(\.\d+)? ms", out)
    code, out, _ = show(socket, "spoke")
    assert (code, "probes go to 10.0.0.2" in out) == (0, True)
    # Over TCP, the same.
    over_tcp = json.loads(exporter.get("/api/v1/status").text)
    assert over_tcp["devices"][0]["peers"][0]["public_key"] == pair.spoke_keys.public
    for secret in (pair.hub_keys.private, pair.spoke_keys.private):
        assert secret not in exporter.get("/api/v1/status").text

    cut = "add table inet cut\nadd chain inet cut in { type filter hook input priority 0; policy drop; }\n"
    pair.spoke.namespace.run(["nft", "-f", "-"], stdin=cut)
    until(exporter, "wireguard_peer_state", 1, state="down", within=60)
    [peer] = shown(socket)["devices"][0]["peers"]
    assert peer["state"] == "down"
    assert peer["probe"]["round_trip_seconds"] is peer["probe"]["loss_ratio"] is None
    assert "1 peer expected up, 1 not: spoke on" in show(socket)[1]

    # One look, at the same moment, in the same place.
    alone = pair.hub.namespace.inside
    path = tmp_path / "own.yml"
    path.write_text(config(pair))
    code, out, _ = run("show", "--socket=", f"--config.file={path}", wrapper=alone)
    assert code == 0
    assert "looked for itself: no socket was named; one look can't tell whether a peer is up (?)" in out
    assert re.search(r"^ +spoke +\S+ +\? ", out, re.MULTILINE)
    assert "1 peer expected up, 0 not, 1 not known" in out
    code, out, _ = run("show", "--json", "--socket=", f"--config.file={path}", wrapper=alone)
    looked = json.loads(out)
    assert (looked["exporter"], looked["devices"][0]["peers"][0]["state"]) == (None, None)


def test_an_exporter_that_hangs_or_is_gone_or_has_another_configuration_is_not_waited_for(
    pair: Tunnel, exporter: Exporter, tmp_path: Path
) -> None:
    socket = str(tmp_path / "s")
    path = tmp_path / "own.yml"
    path.write_text(config(pair))
    mine = ("show", f"--socket={socket}", "--json", f"--config.file={path}")

    def unasked() -> str:
        code, out, _ = run(*mine, wrapper=pair.hub.namespace.inside)
        assert code == 0
        assert json.loads(out)["devices"][0]["peers"][0]["state"] is None
        return json.loads(out)["unasked"]

    assert unasked().startswith("the exporter that runs has another configuration: ")
    serving = exporter.serving
    os.kill(serving, signal.SIGSTOP)
    try:
        begun = time.monotonic()
        assert unasked() == f"the exporter at {socket} did not answer within 8 s"
        assert time.monotonic() - begun < 25
    finally:
        os.kill(serving, signal.SIGCONT)
    exporter.process.kill()
    exporter.process.wait()
    eventually(lambda: not Path(f"/proc/{serving}").exists(), within=30)
    assert unasked() == f"no exporter runs here (nobody listens at {socket})"
    # The next one replaces what this one left behind.
    option = f"--web.unix-socket={socket}"
    with start_exporter(option, directory=tmp_path, config=config(pair), namespace=pair.hub.namespace):
        assert shown(socket)["exporter"]
    assert unasked() == f"no exporter runs here (there is no {socket})"


def test_without_its_directory_and_beside_another_exporter_it_serves_all_but_the_socket(
    pair: Tunnel, exporter: Exporter, tmp_path: Path
) -> None:
    for socket, problem in (
        (tmp_path / "none" / "s", "there is no directory"),
        (tmp_path / "s", "another wg-exporter answers there"),
    ):
        option = f"--web.unix-socket={socket}"
        with start_exporter(option, directory=tmp_path, config=config(pair), namespace=pair.hub.namespace) as second:
            assert scrape(second).one("wireguard_exporter_devices") == 1
            [line] = second.logged("unix socket")
            assert "level=warn" in line
            assert problem in line
            assert "level=error" not in second.log()
    assert shown(str(tmp_path / "s"))["exporter"]  # the first one's, still


def test_a_paused_peer_gets_no_probe_until_the_pause_is_over_and_what_is_known_of_it_stays(
    pair: Tunnel, exporter: Exporter, tmp_path: Path
) -> None:
    from wg_exporter.cli import ask

    key = ("", pair.hub.name, pair.spoke_keys.public)

    def sent() -> float:
        return scrape(exporter).one("wireguard_probe_sent_total")

    eventually(lambda: scrape(exporter).all("wireguard_probe_sent_total") and sent() > 0, within=30)
    before = sent()
    assert ask.pause(str(tmp_path / "s"), key, 60.0) == ""
    time.sleep(2)
    paused = sent()
    time.sleep(3)
    assert sent() == paused >= before
    assert scrape(exporter).one("wireguard_peer_state", state="up") == 1
    assert ask.pause(str(tmp_path / "s"), key, 0.0) == ""
    eventually(lambda: sent() > paused + 5, within=30)


def test_mtu_takes_names_targets_and_states_from_the_exporter(pair: Tunnel, exporter: Exporter, tmp_path: Path) -> None:
    inside = pair.hub.namespace.inside
    code, out, err = run("mtu", f"--socket={tmp_path / 's'}", "--json", "spoke", wrapper=inside)
    assert code == 0
    [found] = json.loads(out)
    assert (found["peer"], found["verdict"], found["state"]) == ("spoke", "ok", "up")
    assert err.startswith("as the exporter that runs here sees it, with ")
    code, out, err = run("mtu", "--socket=", pair.hub.name, wrapper=inside)
    assert "looked for itself, so no peer's state is known: no socket was named" in err
    assert "The exporter says" not in out
