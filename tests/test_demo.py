"""The demo: four peers that look as they are called, and a host that is afterwards as it was before."""

from __future__ import annotations

import contextlib
import json
import re
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.request import urlopen

import pytest

from tests.lab import WireGuard, eventually, free_port, traces
from wg_exporter.cli.demo.alerting import missing
from wg_exporter.cli.demo.network import Demo, DemoPlan, run
from wg_exporter.cli.netlab import Namespace
from wg_exporter.conffile import parse_wg_quick
from wg_exporter.config import load

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.lab import Lab

    Start = Callable[..., subprocess.Popen[str]]

# Runs the demo under the lab's prefix; `serve` prints where its configuration is, and waits for a signal.
SCRIPT = """
    import signal, sys, time
    from pathlib import Path
    from wg_exporter.cli.demo.network import Demo, run

    def serve(plan):
        asked = []
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: asked.append(True))
        print("serving", plan.config_path, flush=True)
        while not asked:
            time.sleep(0.01)
        for number in (signal.SIGTERM, signal.SIGINT):  # as an event loop leaves them
            signal.signal(number, signal.SIG_DFL)
        return 7

    sys.exit(run(serve, demo=Demo(sys.argv[1], Path(sys.argv[2]))))
"""


@contextlib.contextmanager
def demos(lab: Lab) -> Iterator[Start]:
    """Starts demos under the lab's prefix, each by the command that is given, if any. What still runs is ended."""
    started: list[subprocess.Popen[str]] = []

    def start(*before: str) -> subprocess.Popen[str]:
        command = [*before, sys.executable, "-c", textwrap.dedent(SCRIPT), lab.prefix, str(lab.directory)]
        root = Path(__file__).parents[1]
        started.append(subprocess.Popen(command, cwd=root, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE))
        return started[-1]

    try:
        yield start
    finally:
        for process in started:
            _end(process)


def _end(process: subprocess.Popen[str]) -> None:
    """It has the time to take its network down; what a killed one leaves, the lab removes."""
    process.terminate()  # nothing happens to one that has ended
    try:
        process.communicate(timeout=60)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()


@pytest.fixture
def start(lab: Lab) -> Iterator[Start]:
    with demos(lab) as start:
        yield start


def wait_until_serving(process: subprocess.Popen[str]) -> list[str]:
    """What it printed until then; fails if it ends first."""
    lines: list[str] = []
    assert process.stdout
    for line in process.stdout:
        if line.startswith("serving"):
            return lines
        lines.append(line)
    raise AssertionError(process.communicate(timeout=60))


@pytest.mark.lab
def test_each_of_the_four_peers_looks_as_it_is_called(lab: Lab) -> None:
    demo = Demo(lab.prefix, lab.directory)
    try:
        plan = demo.start()
        config = load(plan.config_path)
        (conf,) = map(Path, config.names)
        assert conf.stat().st_mode & 0o777 == 0o600
        keys = {peer.name: peer.public_key for peer in parse_wg_quick(conf.read_text(), str(conf)).peers}
        healthy, idle = keys["office (healthy)"], keys["backup (idle)"]
        dead, never = keys["branch (dead)"], keys["laptop (never connected)"]
        assert len(keys) == 4

        (namespace,) = config.namespaces
        assert config.interfaces.include == (plan.interface,)
        hub = WireGuard(Namespace(lab, namespace.netns.removeprefix(lab.prefix)), plan.interface, conf, None)
        handshakes, before = hub.handshakes(), hub.transfer()
        assert [bool(handshakes[key]) for key in (healthy, idle, dead, never)] == [True, True, True, False]

        # The branch gets a keepalive every 5 seconds.
        eventually(lambda: hub.transfer()[dead][1] > before[dead][1], within=30)
        after = hub.transfer()
        assert after[healthy][0] > before[healthy][0]
        assert after[healthy][1] > before[healthy][1]
        assert after[dead][0] == before[dead][0]
        assert after[never] == (0, 0)
        assert sum(after[idle]) - sum(before[idle]) <= 32, "no more than the keepalive that ends the handshake"
    finally:
        demo.stop()
    assert traces(lab.prefix) == []
    assert not lab.directory.exists()


@pytest.mark.lab
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_and_removes_everything(lab: Lab, start: Start, number: signal.Signals) -> None:
    process = start()
    introduction = wait_until_serving(process)
    assert len(introduction) == 4, introduction
    whole = len(traces(lab.prefix))
    assert whole >= 5
    process.send_signal(number)
    eventually(lambda: len(traces(lab.prefix)) < whole, within=30, every=0.001)
    process.send_signal(number)  # while it cleans up: changes nothing
    assert process.wait(30) == 7, "what serve returned"
    assert traces(lab.prefix) == []
    assert not lab.directory.exists()


@pytest.mark.lab
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_while_it_is_being_built_takes_it_down_again(lab: Lab, start: Start, number: signal.Signals) -> None:
    process = start()
    eventually(lambda: traces(lab.prefix), within=30, every=0.001)
    process.send_signal(number)
    assert process.wait(30) == 130
    assert traces(lab.prefix) == []
    assert not lab.directory.exists()


@pytest.mark.lab
def test_a_test_that_fails_leaves_no_demo_running(lab: Lab) -> None:
    def fails() -> None:
        with demos(lab) as start:
            wait_until_serving(start())
            raise LookupError

    with pytest.raises(LookupError):
        fails()
    assert traces(lab.prefix) == []
    assert not lab.directory.exists()


@pytest.mark.lab
def test_it_starts_again_after_a_kill(lab: Lab, start: Start) -> None:
    first = start()
    wait_until_serving(first)
    first.kill()
    first.wait(30)
    left = set(traces(lab.prefix))
    assert len(left) >= 5

    second = start()
    wait_until_serving(second)
    pids = {trace for trace in traces(lab.prefix) if trace.isdigit()}
    assert pids, "the new ping at least"
    assert not pids & left, "no process of the first lives on"
    second.terminate()
    assert second.wait(30) == 7
    assert traces(lab.prefix) == []


def lasting(prefix: str) -> list[str]:
    """What stays: not the commands that the demo runs for a moment."""

    def twice() -> list[str] | None:
        found = traces(prefix)
        time.sleep(0.5)
        return found if traces(prefix) == found else None

    return eventually(twice, within=30)


@pytest.mark.lab
def test_a_second_demo_is_refused_in_one_line_and_harms_nothing(
    lab: Lab, start: Start, capsys: pytest.CaptureFixture[str]
) -> None:
    first = start()
    wait_until_serving(first)
    there = lasting(lab.prefix)
    assert run(_never_called, demo=Demo(lab.prefix, lab.directory)) == 1
    assert capsys.readouterr() == ("", f"another demo is running, process {first.pid}; stop that one first\n")
    assert lasting(lab.prefix) == there
    first.terminate()
    assert first.wait(30) == 7


@pytest.mark.lab
def test_an_exporter_that_cannot_serve_takes_the_network_with_it(lab: Lab) -> None:
    def serve(_: DemoPlan) -> int:
        assert traces(lab.prefix)
        raise OSError("port in use")

    handlers = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    with pytest.raises(OSError, match="port in use"):
        run(serve, demo=Demo(lab.prefix, lab.directory))
    assert traces(lab.prefix) == []
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == handlers


@pytest.mark.lab
def test_a_network_that_cannot_be_built_is_one_line_and_leaves_nothing(
    lab: Lab, capsys: pytest.CaptureFixture[str]
) -> None:
    lab.write("network", "a file where the directory should be")
    assert run(_never_called, demo=Demo(lab.prefix, lab.directory)) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "network" in line
    assert traces(lab.prefix) == []


@pytest.mark.lab
def test_root_that_may_not_make_namespaces_is_told_what_a_container_takes(lab: Lab, start: Start) -> None:
    demo = start("setpriv", "--bounding-set=-sys_admin", "--inh-caps=-sys_admin")
    _, said = demo.communicate(timeout=30)
    assert demo.returncode == 1
    assert re.fullmatch(r"ip netns add .*: .*Operation not permitted.*; in a container it takes --privileged\n", said)
    assert traces(lab.prefix) == []


def test_without_root_or_tools_each_missing_thing_is_one_line_with_its_cure() -> None:
    script = """
        import os
        from wg_exporter.cli.demo.network import run
        os.environ["PATH"] = "/nowhere"
        if os.geteuid() == 0:
            os.setuid(65534)
        raise SystemExit(run(lambda config: 0))
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 1
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    assert lines[0].startswith("not root: ")
    assert "wg: no such command; apt-get install wireguard-tools" in lines
    assert "ip: no such command; apt-get install iproute2" in lines


@pytest.mark.lab
def test_the_command_that_it_names_asks_its_exporter(lab: Lab) -> None:
    script = f"""
        import sys
        from pathlib import Path
        from wg_exporter.cli.common import load_config
        from wg_exporter.cli.demo.network import Demo, run
        from wg_exporter.cli.serve import run_server
        from wg_exporter.daemon.doors import Asked

        def serve(plan):
            listen = ["127.0.0.1:{free_port()}"]
            asked = Asked(load_config(plan.config_path), plan.config_path, listen, "/metrics", str(plan.socket))
            return run_server(asked)

        sys.exit(run(serve, demo=Demo(sys.argv[1], Path(sys.argv[2]))))
    """
    command = [sys.executable, "-c", textwrap.dedent(script), lab.prefix, str(lab.directory)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            assert process.stdout is not None
            introduction = "".join(process.stdout.readline() for _ in range(3))
            (path,) = re.findall(r"show --socket (\S+)\n", introduction)
            eventually(lambda: Path(path).exists(), within=30)

            def shown() -> str:
                show = [sys.executable, "-m", "wg_exporter.cli", "show", "--socket", path]
                return subprocess.run(show, capture_output=True, text=True, check=False, timeout=30).stdout

            text = eventually(lambda: "as the exporter on" in (said := shown()) and said, within=30, every=0.5)
        finally:
            process.terminate()
            process.wait(30)
    assert "4 peers" in text
    assert traces(lab.prefix) == []


def _never_called(_: DemoPlan) -> int:
    raise AssertionError("the demo was not to be served")


@pytest.mark.lab
@pytest.mark.prometheus
def test_alerts_are_shown_by_the_rules_that_ship_and_nothing_is_left(lab: Lab) -> None:
    """The port is taken by nobody, so that the exporter does not answer: enough for an alert to be seen."""
    checkout = Path(__file__).parents[1]
    assert missing(checkout) == ""
    demo = Demo(lab.prefix, lab.directory)
    try:
        demo.start()
        told = demo.show_alerts(checkout, f"127.0.0.1:{free_port()}")
        prometheus, manager = re.findall(r"http://127\.0\.0\.1:\d+", told)

        def firing() -> list[str]:
            with contextlib.suppress(OSError), urlopen(f"{prometheus}/api/v1/alerts", timeout=30) as answer:
                return [alert["labels"]["alertname"] for alert in json.load(answer)["data"]["alerts"]]
            return []

        def received() -> list[str]:
            with contextlib.suppress(OSError), urlopen(f"{manager}/api/v2/alerts", timeout=30) as answer:
                return [alert["labels"]["alertname"] for alert in json.load(answer)]
            return []

        eventually(lambda: "Watchdog" in firing(), within=60, every=0.3)
        eventually(lambda: "Watchdog" in received(), within=60, every=0.3)
    finally:
        demo.stop()
    assert traces(lab.prefix) == []
    assert not lab.directory.exists()


def test_without_prometheus_or_rules_the_demo_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "run the demo from a checkout" in missing(tmp_path)
    monkeypatch.setenv("PATH", "/nowhere")
    assert "apt-get install prometheus prometheus-alertmanager" in missing(tmp_path)
