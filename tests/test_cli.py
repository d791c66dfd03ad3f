"""The command line as it is called: exit codes, a line for each thing that is wrong, endings without a traceback."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import textwrap
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import click
import pytest

from tests.lab import eventually, traces
from wg_exporter import __version__
from wg_exporter.cli.program import Program, main

ROOT = Path(__file__).parents[1]
COMMAND = (sys.executable, "-m", "wg_exporter.cli")
# The same width everywhere, and no colours.
ENVIRONMENT = {**os.environ, "COLUMNS": "80", "PYTHONPATH": str(ROOT)}


def start(*arguments, **more):
    return subprocess.Popen(
        [*COMMAND, *map(str, arguments)],
        cwd=ROOT,
        env=ENVIRONMENT,
        text=True,
        **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **more},
    )


@contextmanager
def killed_at_last(process):
    """So that a test that fails leaves nothing that runs, and does not wait for it."""
    with process:
        try:
            yield process
        finally:
            process.kill()


def run(*arguments, **more):
    """(exit code, standard output, standard error)."""
    with killed_at_last(start(*arguments, **more)) as process:
        out, err = process.communicate(timeout=60)
    assert "Traceback" not in err
    return process.returncode, out, err


@pytest.fixture
def nothing(tmp_path):
    """A configuration that sees no device, whatever this host has."""
    path = tmp_path / "nothing.yml"
    path.write_text("interfaces: {exclude: ['*']}\nnames: []\n")
    return path


@pytest.fixture
def taken():
    """An address whose port is in use."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


# --- in general -----------------------------------------------------------------------------------------------------


def test_the_version_is_printed():
    assert run("--version") == (0, f"wg-exporter, version {__version__}\n", "")


def test_the_help_names_each_command_with_an_uncut_line():
    code, out, _ = run("--help")
    assert code == 0
    assert re.findall(r"(?m)^  (demo|mtu|serve|show) ", out) == ["demo", "mtu", "serve", "show"]
    assert "..." not in out.partition("Commands:")[2]


@pytest.mark.parametrize("command", ["serve", "show", "mtu", "demo"])
def test_each_command_explains_itself_and_all_its_flags(command):
    code, out, _ = run(command, "-h")
    assert code == 0
    options = [option for option in main.commands[command].params if isinstance(option, click.Option)]
    assert options
    assert [option.opts[0] for option in options if not option.help or option.opts[0] not in out] == []


def test_neither_help_nor_a_bad_flag_loads_what_only_the_commands_need():
    program = """
        import sys
        from click.testing import CliRunner
        from wg_exporter.cli import main
        for arguments in (["--help"], ["serve", "--help"], ["show", "--nope"]):
            CliRunner().invoke(main, arguments)
        print(sorted({"aiohttp", "asyncio", "rich", "pyroute2", "msgspec", "prometheus_client"} & set(sys.modules)))
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], cwd=ROOT, capture_output=True, check=True)
    assert done.stdout == b"[]\n"


def test_a_command_loads_none_of_the_others():
    program = """
        import sys
        from wg_exporter.cli import main
        main.commands["serve"]
        print(*sorted(name for name in sys.modules if name.startswith("wg_exporter.cli.")))
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], cwd=ROOT, capture_output=True, check=True)
    assert done.stdout.split() == [b"wg_exporter.cli.common", b"wg_exporter.cli.program", b"wg_exporter.cli.serve"]


def test_each_command_goes_by_the_name_by_which_it_is_found():
    assert {name: command.name for name, command in main.commands.items()} == {name: name for name in main.commands}
    assert "nonsense" not in main.commands


@pytest.mark.parametrize(
    "arguments",
    [
        ["serve", "--nope"],
        ["show", "--interval", "0"],
        ["show", "--json", "--watch"],
        ["show", "a", "b", "c"],
        ["serve", "--log.level", "loud"],
        ["nonsense"],
    ],
)
def test_wrong_usage_says_how_to_get_help_and_exits_with_2(arguments):
    code, out, err = run(*arguments)
    assert (code, out) == (2, "")
    assert "--help" in err
    assert "\nError: " in err


@pytest.mark.parametrize(
    ("raised", "code"), [(KeyboardInterrupt, 128 + signal.SIGINT), (BrokenPipeError, 128 + signal.SIGPIPE)]
)
def test_somebody_who_has_seen_enough_gets_the_exit_code_of_the_signal_and_no_words(raised, code, tmp_path):
    @click.group(cls=Program)
    def program():
        pass

    @program.command()
    def fail():
        raise raised

    with (tmp_path / "out").open("w") as file, pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stdout", file)
        with pytest.raises(SystemExit) as ended:
            program(["fail"])
    assert ended.value.code == code
    assert (tmp_path / "out").read_text() == ""


# --- serve ----------------------------------------------------------------------------------------------------------


def test_without_any_configuration_it_serves_and_a_signal_ends_it_with_0():
    with killed_at_last(start("serve", "--web.listen-address", "127.0.0.1:0")) as process:
        address = re.search(r"msg=listening address=(\S+)", process.stderr.readline())[1]
        with urllib.request.urlopen(f"http://{address}/metrics", timeout=30) as answer:
            assert b"wireguard_exporter_build_info{" in answer.read()
        process.terminate()
        assert "Traceback" not in process.communicate(timeout=60)[1]
        assert process.returncode == 0


def test_a_bad_configuration_is_all_its_problems_and_nothing_else_was_tried(tmp_path, taken):
    path = tmp_path / "bad.yml"
    path.write_text("interfaces:\n  include: wg0\nmetrics:\n  endpoint: Off\nnmaes: []\n")
    code, out, err = run("serve", "--config.file", path, "--web.listen-address", taken)
    assert (code, out) == (2, "")
    lines = err.splitlines()
    assert len(lines) == 3, err
    assert all(line.startswith(f"{path}:") for line in lines)
    assert [re.search(word, err) is None for word in ("interfaces.include", "metrics.endpoint", "nmaes")] == [False] * 3


def test_a_configuration_that_is_not_there_is_one_line(tmp_path):
    code, _, err = run("serve", "--config.file", tmp_path / "gone.yml")
    assert code == 2
    assert err.startswith(f"{tmp_path / 'gone.yml'}: can't be read: No such file")
    assert err.count("\n") == 1


def test_every_flag_that_cannot_be_used_is_a_line(taken):
    code, out, err = run(
        "serve",
        *("--web.listen-address", taken),
        *("--web.listen-address", "9586"),
        *("--web.listen-address", "host"),
        *("--web.telemetry-path", "metrics"),
    )
    assert (code, out) == (2, "")
    assert [line.split(":")[0] for line in err.splitlines()] == [
        "listen address '9586'",
        "listen address 'host'",
        "telemetry path 'metrics'",
    ]


@pytest.mark.parametrize("level", ["warn", "warning", "WARN"])
def test_a_port_in_use_is_one_line_and_no_wrong_usage(taken, level):
    code, out, err = run("serve", "--web.listen-address", taken, "--log.level", level)
    assert (code, out) == (1, "")
    assert err.startswith(f"Error: cannot listen on {taken}: the port is in use; ")
    assert err.count("\n") == 1


# --- show -----------------------------------------------------------------------------------------------------------


def test_with_nothing_to_show_the_reason_is_one_line(nothing):
    for arguments in ([], ["wg0"], ["wg0", "anna"], ["--watch"]):
        code, out, err = run("show", *arguments, "--config.file", nothing)
        assert (code, out) == (1, "")
        assert err.startswith("Error: ")
        assert err.count("\n") == 1


def test_json_is_whole_even_with_nothing_to_show(nothing):
    code, out, err = run("show", "--json", "--config.file", nothing)
    assert code == 1
    assert json.loads(out)["devices"] == []
    assert err.count("\n") == 1


def test_show_refuses_a_bad_configuration_as_serve_does(tmp_path):
    path = tmp_path / "bad.yml"
    path.write_text("interfaces: [\n")
    code, out, err = run("show", "--config.file", path)
    assert (code, out) == (2, "")
    assert err.startswith(f"{path}:")


def test_a_reader_that_leaves_early_gets_no_complaint(nothing):
    reading, writing = os.pipe()
    os.close(reading)
    with open(writing, "w") as pipe:  # noqa: PTH123 - a descriptor, not a path
        assert run("show", "--json", "--config.file", nothing, stdout=pipe) == (141, None, "")


def test_a_full_disk_is_one_line(nothing):
    with Path("/dev/full").open("w") as full:
        code, _, err = run("show", "--json", "--config.file", nothing, stdout=full)
    assert (code, err) == (1, "Error: cannot write to standard output: No space left on device\n")


# --- demo -----------------------------------------------------------------------------------------------------------


def test_the_demo_is_not_built_for_a_port_that_is_taken(taken):
    code, out, err = run("demo", "--web.listen-address", taken)
    assert (code, out) == (1, "")
    assert err.startswith(f"Error: cannot listen on {taken}: the port is in use; ")
    assert err.endswith("--web.listen-address\n")


def test_the_demo_refuses_an_address_that_is_none():
    assert run("demo", "--web.listen-address", "9586")[0] == 2


# `wg-exporter demo` in a place of its own, so that it can't meet one that somebody is looking at.
ELSEWHERE = """
    import sys
    from pathlib import Path
    from wg_exporter import cli
    from wg_exporter.cli.demo import network as demo
    demo.Demo.__init__.__defaults__ = (sys.argv[1], Path(sys.argv[2]))
    cli.main(["demo", "--web.listen-address", "127.0.0.1:0"])
"""


@contextmanager
def running_demo(lab):
    """A demo that is being served, the address of its metrics, and its configuration."""
    demo = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(ELSEWHERE), lab.prefix, lab.directory],
        cwd=ROOT, env=ENVIRONMENT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    with killed_at_last(demo) as process:
        introduction = "".join(process.stdout.readline() for _ in range(3))
        assert "msg=listening" in process.stderr.readline()
        url, asked = (re.search(what, introduction)[1] for what in (r"(http://\S+/metrics)", r"--socket (\S+)"))
        yield process, url, str(Path(asked).with_name("wg-exporter.yml"))


@pytest.mark.lab
def test_the_demo_is_served_and_shown_and_sigterm_leaves_nothing(lab):
    with running_demo(lab) as (process, url, config):
        with urllib.request.urlopen(url, timeout=30) as answer:
            assert b'peer="laptop (never connected)"' in answer.read()

        code, out, err = run("show", "--config.file", config)
        assert (code, err) == (0, "")
        assert "branch (dead)" in out

        code, out, err = run("show", "--json", "--config.file", config)
        assert (code, err) == (0, "")
        [device] = json.loads(out)["devices"]
        assert len(device["peers"]) == 4

        code, out, err = run("show", device["interface"], "zoe", "--config.file", config)
        assert (code, out) == (1, "")
        assert err.startswith(f"Error: no peer zoe on {device['interface']}; there is: ")

        code, out, err = run("show", "wg9", "--json", "--config.file", config)
        assert (code, json.loads(out)["devices"]) == (1, [])
        said = f"Error: no WireGuard interface and no peer wg9; there is: {device['interface']}; peers: "
        assert err.startswith(said)

        with killed_at_last(start("show", "--watch", "--interval", "0.2", "--config.file", config)) as watching:
            watching.stdout.readline()
            watching.send_signal(signal.SIGINT)
            assert watching.communicate(timeout=60)[1] == ""
            assert watching.returncode == 0

        with killed_at_last(start("show", "--watch", "--interval", "0.2", "--config.file", config)) as watching:
            watching.stdout.readline()
            watching.stdout.close()
            assert watching.wait(30) == 141
            assert watching.stderr.read() == ""

        process.terminate()
        assert "Traceback" not in process.communicate(timeout=60)[1]
        assert process.returncode == 0
        assert traces(lab.prefix) == []


@pytest.mark.lab
def test_ctrl_c_pressed_twice_leaves_nothing_of_the_demo_either(lab):
    with running_demo(lab) as (process, _, _):
        whole = len(traces(lab.prefix))
        process.send_signal(signal.SIGINT)
        eventually(lambda: len(traces(lab.prefix)) < whole, within=30, every=0.001)
        process.send_signal(signal.SIGINT)
        assert "Traceback" not in process.communicate(timeout=60)[1]
        assert process.returncode == 0
        assert traces(lab.prefix) == []


@pytest.mark.lab
def test_if_no_device_can_be_read_that_is_the_exit_code_too(lab):
    device = lab.wireguard(lab.namespace("alone"), "alone", "", ["10.9.0.1/24"])
    config = lab.write("alone.yml", f"interfaces: {{include: [{device.name}]}}\nnames: []\n")
    assert run("show", "--config.file", config)[0] == 0
    device.process.send_signal(signal.SIGSTOP)
    try:
        code, out, err = run("show", "--config.file", config)
    finally:
        device.process.send_signal(signal.SIGCONT)
    assert code == 1
    assert f"! {device.name}" in out
    assert err.startswith(f"Error: could not read {device.name}: ")
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("serve", "--config.file="), "it is empty; name a file, or leave the flag out"),
        (("check", "--web.config.file="), "it is empty; name a file, or leave the flag out"),
        (("show", "--interval=5"), "--interval is the time between two looks of --watch; add --watch"),
        (("check", "good.yml"), "good.yml stands alone; did you mean --config.file=good.yml?"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_a_slip_in_the_flags_is_answered_with_what_was_meant(arguments, said):
    code, out, err = run(*arguments)
    assert (code, out) == (2, "")
    assert said in " ".join(err.split())
