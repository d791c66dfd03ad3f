"""Tests run in the same surroundings, whatever a shell, a script in the background or a service manager left behind."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path
from typing import Any

import pytest

PROGRAM = """
    import json, os, resource, signal, socket, subprocess, tempfile
    from tests import surroundings
    surroundings.settle()
    umask = os.umask(0)
    asked = ["readlink", "/proc/self/ns/net"]
    network = subprocess.check_output(asked, text=True).strip()
    def reaches(address):
        with socket.create_server((address, 0), family=socket.AF_INET6 if ":" in address else socket.AF_INET) as server:
            with socket.create_connection((address, server.getsockname()[1]), 5):
                return True
    caught = [number.name for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
              if signal.getsignal(number) is signal.SIG_IGN]
    print(json.dumps({
        "umask": umask, "ignored": caught, "blocked": [*signal.pthread_sigmask(signal.SIG_BLOCK, ())],
        "files": resource.getrlimit(resource.RLIMIT_NOFILE)[0], "temporary": tempfile.gettempdir(),
        "inside": network, "outside_network": subprocess.check_output(surroundings.outside(asked), text=True).strip(),
        "reached": [address for address in ("127.0.0.1", "::1") if reaches(address)],
        "environment": dict(os.environ), "outside": surroundings.OUTSIDE,
    }))
"""

OBEYED = """
    LC_ALL LANGUAGE TZ COLUMNS NO_COLOR FORCE_COLOR PYTHONWARNINGS PYTHONDONTWRITEBYTECODE http_proxy HTTPS_PROXY
    WG_COLOR_MODE WG_HIDE_KEYS WG_PROCESS_FOREGROUND LOG_LEVEL GOMAXPROCS NOTIFY_SOCKET LISTEN_FDS
"""


def found(environment: dict[str, str] | None = None, files: int = 128) -> dict[str, Any]:
    """What a process finds that began in the worst of surroundings."""

    def spoil() -> None:
        os.umask(0o077)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
            signal.signal(number, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
        resource.setrlimit(resource.RLIMIT_NOFILE, (files, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))

    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(PROGRAM)],
        cwd=Path(__file__).parents[1],
        env=environment or {},
        preexec_fn=spoil,
        capture_output=True,
        check=True,
        timeout=60,
    )
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def test_signals_that_a_script_in_the_background_ignores_work_again() -> None:
    assert found()["ignored"] == found()["blocked"] == []


def test_files_are_made_that_others_can_read() -> None:
    assert found()["umask"] == 0o022


@pytest.mark.parametrize("files", [256, 4096])
def test_as_many_files_can_be_open_as_in_a_login_or_as_few_as_the_limit_allows(files: int) -> None:
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    assert found(files=min(files, most))["files"] == min(1024, most)


def test_a_variable_that_programs_obey_is_gone_for_tests_and_known_to_what_asks_the_world() -> None:
    obeyed = dict.fromkeys(OBEYED.split(), "1")
    answer = found({**obeyed, "WG_DAY_SEED": "7", "HOME": "/root"})
    assert obeyed.keys() & answer["environment"].keys() == set()
    assert answer["environment"]["WG_DAY_SEED"] == "7", "what is meant for the tests stays"
    assert obeyed.items() <= answer["outside"].items()


def test_terminal_and_locale_are_always_the_same() -> None:
    environment = found({"TERM": "dumb", "LANG": "de_DE"})["environment"]
    assert (environment["TERM"], environment["LANG"]) == ("xterm", "C.UTF-8")


def test_tools_of_the_system_are_found_with_the_path_of_a_user_behind_the_user_s_own() -> None:
    path = found({"PATH": "/opt/mine:/usr/bin:/bin"})["environment"]["PATH"].split(":")
    assert path[:3] == ["/opt/mine", "/usr/bin", "/bin"]
    assert {"/usr/sbin", "/sbin"} <= {*path}


def test_temporary_files_stay_where_they_were_asked_for() -> None:
    with tempfile.TemporaryDirectory(dir="/var/tmp") as name:
        Path(name).chmod(0o755)
        assert found({"TMPDIR": name})["temporary"] == name


@pytest.mark.parametrize(("below", "mode"), [("x" * 60, 0o755), ("closed", 0o700)])
def test_temporary_files_are_elsewhere_if_a_socket_s_path_would_be_too_long_or_others_kept_out(
    below: str, mode: int
) -> None:
    with tempfile.TemporaryDirectory(dir="/var/tmp") as name:
        Path(name).chmod(0o755)
        there = Path(name, below)
        there.mkdir()
        there.chmod(mode)
        answer = found({"TMPDIR": str(there)})
        assert answer["temporary"] == answer["environment"]["TMPDIR"] == "/tmp"


@pytest.mark.skipif(os.geteuid() != 0, reason="not root: a network of one's own needs it")
def test_the_network_has_a_loopback_of_both_families_and_what_asks_the_world_is_in_the_machine_s() -> None:
    answer = found()
    assert answer["reached"] == ["127.0.0.1", "::1"]
    assert answer["inside"] != answer["outside_network"] == str(Path("/proc/self/ns/net").readlink())
