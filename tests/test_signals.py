"""A service is sent signals from the moment it is started, by who changed its configuration or changed his mind: none
ends it that must not, none is lost, and to be told to end is no failure."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.lab import eventually, free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = os.geteuid() == 0
MODES = [
    pytest.param((), id="apart", marks=pytest.mark.skipif(not ROOT, reason="only root can be several users")),
    pytest.param(("--no-privsep",), id="alone"),
]
NOTHING = 'interfaces: {include: ["no-such*"]}\nnames: []\n'


class Started:
    """An exporter that has only just been started."""

    def __init__(self, directory: Path, *flags: str) -> None:
        self.config, self.socket = directory / "config.yml", directory / "http.sock"
        self.config.write_text(NOTHING)
        self._log = directory / "log"
        command = [sys.executable, "-m", "wg_exporter.cli", "serve", f"--web.listen-address=127.0.0.1:{free_port()}"]
        command += [f"--web.unix-socket={self.socket}", "--storage.path=", f"--config.file={self.config}", *flags]
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        self.pid = self.process.pid

    def log(self) -> str:
        return self._log.read_text()

    def status(self, field: str) -> int:
        """A set of signals, as proc(5) has it."""
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith(f"{field}:"):
                return int(line.split()[1], 16)
        raise AssertionError(field)

    def takes(self, number: int) -> bool:
        return bool((self.status("SigBlk") | self.status("SigCgt")) >> (number - 1) & 1)

    def until_it_takes_signals(self) -> None:
        """The first moment at which it is ours to say what a signal does: before, it is the interpreter's start. All
        are held at once, and SIGHUP is the one of which the interpreter itself takes no notice.
        """
        eventually(lambda: self.takes(signal.SIGHUP), within=30)

    def children(self) -> list[int]:
        return [int(pid) for pid in Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()]


@pytest.fixture
def started(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Started]:
    exporter = Started(tmp_path, *request.param)
    yield exporter
    with contextlib.suppress(ProcessLookupError):
        os.killpg(exporter.pid, signal.SIGKILL)
    exporter.process.wait(30)


EARLY = [0.0, 0.1, 0.25, 0.5]  # seconds; how far the start is by then depends on the machine


@pytest.mark.parametrize("after", EARLY)
@pytest.mark.parametrize("started", MODES, indirect=True)
def test_a_reload_is_not_lost_however_soon_after_the_start_it_comes(started: Started, after: float) -> None:
    started.until_it_takes_signals()
    time.sleep(after)
    started.config.write_text("BAD: 1\n")
    started.process.send_signal(signal.SIGHUP)
    # If the file was not read yet, the start itself finds the mistake.
    eventually(lambda: "not reloaded" in started.log() or started.process.poll() is not None, within=30)
    assert started.process.poll() in {None, 2}, started.log()
    assert "BAD: is not a known key" in started.log()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("after", EARLY)
@pytest.mark.parametrize("started", MODES, indirect=True)
def test_told_to_end_during_its_start_it_ends_with_code_0_and_leaves_nothing(
    started: Started, after: float, number: signal.Signals
) -> None:
    started.until_it_takes_signals()
    time.sleep(after)
    started.process.send_signal(number)
    assert started.process.wait(30) == 0, started.log()
    assert "level=error" not in started.log()
    assert "Traceback" not in started.log()
    assert not started.socket.exists()


@pytest.mark.parametrize("started", MODES, indirect=True)
def test_told_to_end_again_and_again_it_ends_with_code_0(started: Started) -> None:
    eventually(lambda: "listening" in started.log(), within=30)
    while started.process.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(started.pid, signal.SIGTERM)
        time.sleep(0.01)
    assert started.process.returncode == 0
    assert not started.socket.exists()
    assert "level=error" not in started.log()


@pytest.mark.parametrize("started", MODES, indirect=True)
def test_asked_to_reload_while_it_ends_it_ends_with_code_0_and_no_failure(started: Started) -> None:
    eventually(lambda: "msg=peers" in started.log(), within=30)
    time.sleep(0.5)
    started.process.terminate()
    while started.process.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(started.pid, signal.SIGHUP)
        time.sleep(0.002)
    assert started.process.returncode == 0
    assert "level=error" not in started.log()


@pytest.mark.parametrize("started", MODES, indirect=True)
def test_signals_that_mean_nothing_to_it_do_nothing(started: Started) -> None:
    started.until_it_takes_signals()
    for _ in range(2):
        for number in (signal.SIGUSR1, signal.SIGUSR2):
            started.process.send_signal(number)
            for child in started.children():
                os.kill(child, number)
        before = started.children()
        eventually(lambda: "msg=peers" in started.log(), within=30)  # all that it starts is there
    assert started.process.poll() is None
    assert started.children() == before
    started.process.terminate()
    assert started.process.wait(30) == 0


@pytest.mark.parametrize("started", MODES[:1], indirect=True)
def test_a_process_that_serves_and_is_told_to_end_alone_is_a_failure(started: Started) -> None:
    """So that systemd starts the service again (Restart=on-failure)."""
    eventually(lambda: "listening" in started.log(), within=30)
    (web,) = [pid for pid in started.children() if Path(f"/proc/{pid}/comm").read_text() == "wg-web\n"]
    os.kill(web, signal.SIGTERM)
    assert started.process.wait(30) == 1
    assert 'level=error msg="the exporter ended, and nobody had asked for that"' in started.log().replace("  ", " ")
    assert not started.socket.exists()


@pytest.mark.parametrize("after", EARLY)
@pytest.mark.parametrize("started", MODES[:1], indirect=True)
def test_when_the_first_process_is_killed_during_the_start_the_others_end_and_say_why_in_one_line(
    started: Started, after: float
) -> None:
    eventually(started.children, within=30)
    time.sleep(after)
    others = started.children()
    started.process.kill()
    started.process.wait(30)
    eventually(lambda: not any(Path(f"/proc/{pid}").exists() for pid in others), within=30)
    errors = [line for line in started.log().splitlines() if "level=error" in line]
    assert all('msg="the supervisor is gone, so this process ends"' in line for line in errors), errors
    assert len(errors) <= 1


IMPORTING = """
import importlib.abc, json, signal, sys
class Look(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == "wg_exporter.cli.program":
            held = signal.pthread_sigmask(signal.SIG_BLOCK, ())
            print(json.dumps(sorted(map(int, held))))
            sys.exit()
sys.meta_path.insert(0, Look())
sys.argv = ["wg-exporter", *sys.argv[1:]]
"""


@pytest.mark.parametrize(
    ("arguments", "held"),
    [(["serve"], [signal.SIGHUP, signal.SIGINT, signal.SIGTERM]), (["show"], []), ([], []), (["--help", "serve"], [])],
)
@pytest.mark.parametrize("begun", ["from wg_exporter.cli.entry import main; main()", "import wg_exporter.cli.__main__"])
def test_signals_are_held_back_before_the_commands_are_imported_which_is_most_of_a_start(
    arguments: list[str], held: list[int], begun: str
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", IMPORTING + begun, *arguments], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout == f"{[int(number) for number in held]}\n", done.stderr


def test_the_programs_that_are_installed_begin_there() -> None:
    root = Path(__file__).parents[1]
    assert 'wg-exporter = "wg_exporter.cli.entry:main"' in (root / "pyproject.toml").read_text()
    assert "from wg_exporter.cli.entry import main" in (root / "deploy/debian/program").read_text()
