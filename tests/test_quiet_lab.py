"""`wg-exporter quiet` for real: a tunnel is cut while somebody works on it; the exporter is restarted, and killed."""

from __future__ import annotations

import json
import os
import re
import signal
import stat
import time
from typing import TYPE_CHECKING

import pytest

from tests.lab import eventually, start_exporter, tunnel
from tests.lab.exporting import scrape, until
from tests.test_asking import CONFIG, run, show
from tests.test_systemd import UNIT, under_the_capabilities_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from pathlib import Path

    from tests.lab import Exporter, Lab, Tunnel

pytestmark = pytest.mark.lab


@pytest.fixture
def pair(lab: Lab) -> Tunnel:
    found = tunnel(lab)
    found.ping()
    return found


@pytest.fixture
def storage(tmp_path: Path) -> Path:
    """As systemd makes it, where every other user is kept out."""
    found = tmp_path / "state"
    found.mkdir(mode=0o700)
    return found


@pytest.fixture
def start(pair: Tunnel, tmp_path: Path, storage: Path) -> Callable[..., AbstractContextManager[Exporter]]:
    def begin(*more: str, **how: object) -> AbstractContextManager[Exporter]:
        config = CONFIG.format(interface=pair.hub.name, file=pair.hub.conf)
        flags = [f"--web.unix-socket={tmp_path / 's'}", f"--storage.path={storage}", *more]
        return start_exporter(*flags, directory=tmp_path, config=config, namespace=pair.hub.namespace, **how)

    return begin


def quiet(tmp_path: Path, *more: str) -> tuple[int, str, str]:
    return run("quiet", f"--socket={tmp_path / 's'}", *more)


def quiet_now(exporter: Exporter) -> list[float]:
    return [value for _, value in scrape(exporter).all("wireguard_peer_quiet")]


def test_while_one_works_on_a_peer_it_is_down_and_quiet_everywhere_and_neither_once_it_ends(start, pair, tmp_path):
    with start() as exporter:
        until(exporter, "wireguard_peer_state", 1, state="up", within=60)
        code, out, err = quiet(tmp_path, "spoke", "--for", "2h", "--reason", "new router")
        assert (code, err) == (0, "")
        assert re.fullmatch(rf"spoke on {pair.hub.name} is quiet until [0-9: -]+ \(2 hours\)\.\n", out)
        assert quiet_now(exporter) == [1]
        cut = "add table inet cut\nadd chain inet cut in { type filter hook input priority 0; policy drop; }\n"
        pair.spoke.namespace.run(["nft", "-f", "-"], stdin=cut)
        until(exporter, "wireguard_peer_state", 1, state="down", within=60)
        _, out, _ = show(str(tmp_path / "s"))
        assert re.search(r"^~ +spoke .* down .*\(\d+ minutes\)", out, re.MULTILINE)
        assert re.search(
            rf"^~ 1 is quiet: spoke on {pair.hub.name} until .*: new router; it is down, ", out, re.MULTILINE
        )
        assert "1 peer expected up, 0 not, 1 quiet (1 down)" in out
        _, out, _ = show(str(tmp_path / "s"), "spoke")
        assert re.search(r"quiet, until .*, begun .* ago: new router|quiet, until .* begun just now", out)
        _, out, _ = quiet(tmp_path)
        assert re.match(rf"spoke on {pair.hub.name} is quiet until .*, begun .*: new router\n", out)
        (one,) = json.loads(quiet(tmp_path, "--json")[1])["quiet"]
        assert (one["name"], one["reason"], one["until"] - one["since"]) == ("spoke", "new router", 7200)
        assert quiet(tmp_path, "spoke", "--end") == (0, f"spoke on {pair.hub.name} pages again.\n", "")
        assert quiet_now(exporter) == []
        assert quiet(tmp_path)[1] == "nothing is quiet\n"
        assert "1 peer expected up, 1 not" in show(str(tmp_path / "s"))[1]
        exporter.logged('msg="quiet ends"')
        log = exporter.log()
    assert re.search(r'level=info .*msg="peer changed" .*after=down .*quiet=true', log)
    assert re.search(r'msg="quiet begins" .*peer=spoke .*reason="new router"', log)
    assert re.search(r'msg="quiet ends" .*why="by hand"', log)


@pytest.mark.parametrize("kill", [False, True], ids=["restarted", "killed"])
def test_it_survives_a_restart_as_another_user_without_any_right_and_ends_by_itself(start, tmp_path, storage, kill):
    with start() as exporter:
        begun = time.monotonic()
        assert quiet(tmp_path, "spoke", "--for=20s")[0] == 0
        if kill:
            for pid in exporter.processes().values():
                os.kill(pid, signal.SIGKILL)
        else:
            assert exporter.stop() == 0
        exporter.process.wait(30)
    file = storage / "exporter" / "quiet.json"
    if os.geteuid() == 0:
        assert file.stat().st_uid not in {0, os.getuid()}
    assert stat.S_IMODE(storage.stat().st_mode) == 0o700
    with start() as exporter:
        assert quiet_now(exporter) == [1] or time.monotonic() > begun + 20
        assert exporter.logged('msg="quiet goes on"')
        eventually(lambda: quiet_now(exporter) == [], within=30)
        assert begun + 20 <= time.monotonic() < begun + 20 + 30
        eventually(lambda: 'why="its time is over"' in exporter.log(), within=30)


def test_killed_at_any_moment_it_knows_what_it_has_said_it_would_keep(start, tmp_path):
    said = 0
    for n in range(4):
        with start() as exporter:
            kept = json.loads(quiet(tmp_path, "--json")[1])["quiet"]
            assert [int(one["reason"]) >= said for one in kept] == [True] * min(n, 1)
            for number in range(1, 3 + n):
                code, _, err = quiet(tmp_path, "spoke", "--for=1h", f"--reason={10 * n + number}")
                assert (code, err) == (0, "")
                said = 10 * n + number
            for pid in exporter.processes().values():
                os.kill(pid, signal.SIGKILL)
            exporter.process.wait(30)


def test_the_capabilities_of_the_unit_suffice_to_keep_it(start, tmp_path):
    with start(wrapper=under_the_capabilities_of(UNIT)) as exporter:
        assert quiet(tmp_path, "spoke", "--for=1h")[::2] == (0, "")
        assert "kept across restarts" not in exporter.log()


def test_in_one_process_it_is_kept_too(start, tmp_path):
    for n in range(2):
        with start("--no-privsep") as exporter:
            assert quiet_now(exporter) == [1] * n
            assert quiet(tmp_path, "spoke", "--for=1h")[::2] == (0, "")


def test_a_whole_interface_is_quiet_while_it_is_gone(start, pair, tmp_path):
    with start() as exporter:
        until(exporter, "wireguard_peer_state", 1, state="up", within=60)
        code, out, _ = quiet(tmp_path, pair.hub.name, "--for=1h")
        assert (code, out.partition(" until")[0]) == (0, f"All of {pair.hub.name} is quiet")
        assert pair.hub.process
        pair.hub.process.kill()
        until(exporter, "wireguard_interface_up", 0, within=30)
        metrics = scrape(exporter)
        assert metrics.one("wireguard_interface_quiet") == 1
        assert metrics.one("wireguard_peer_quiet") == 1
        assert quiet(tmp_path, pair.hub.name, "--end")[0] == 0


def test_without_a_directory_it_is_quiet_and_says_that_it_will_not_survive(start, tmp_path, storage):
    storage.rmdir()
    with start() as exporter:
        code, _, err = quiet(tmp_path, "spoke", "--for=1h")
        assert code == 0
        assert err.startswith("It will not survive a restart of the exporter: there is no directory")
        assert quiet_now(exporter) == [1]
        assert len(exporter.logged('msg="nothing is kept across restarts"')) == 1
