"""What `serve` imports once it runs: only what every host needs, in all of its processes; of the libraries, of Python's
own modules, and of ours.

bench/dependencies.py says what each of them costs. The interpreter itself tells of every import, also in processes that
are forked, and of those that are made long after the start.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import textwrap
import time
import tomllib
from importlib import import_module
from pathlib import Path

import pytest

from tests.lab import eventually, start_exporter
from wg_exporter.linux.privileges import readable_by_all
from wg_exporter.web.docs import Docs

ROOT = Path(__file__).parents[1]
MODULES = {
    "markdown-it-py": "markdown_it",
    "prometheus-client": "prometheus_client",
    "pyyaml": "yaml",
}  # where a library has another name in code
NEEDED = {"click", "h11", "isal", "msgspec", "yaml"}

# Python's own that cost more than the one thing that somebody may want of them (kB of memory that is in use).
LARGE = {
    "calendar": 110,
    "difflib": 170,
    "email.utils": 350,
    "gzip": 70,
    "html.entities": 330,
    "importlib.resources": 480,  # with zipfile and tempfile
    "random": 80,  # and its state is made anew in each process
    "secrets": 90,  # with random
    "shutil": 150,  # with bz2 and lzma
    "tempfile": 180,  # with random and shutil
}

# Ours that only some hosts need, or nobody but a command.
RARE = {
    "wg_exporter.daemon.tracking",
    "wg_exporter.linux.bpf",
    "wg_exporter.linux.trackfiles",
    "wg_exporter.reader.accounting.counter",
    "wg_exporter.reader.accounting.source",
    "wg_exporter.reader.initiation",
    "wg_exporter.web.markdown",
}
SERVES = {"wg_exporter.cli.__main__", "wg_exporter.cli.common", "wg_exporter.cli.entry", "wg_exporter.cli.program"}
SERVES |= {"wg_exporter.cli", "wg_exporter.cli.serve"}

PATHS = ("/metrics", "/metrics/mindflavor", "/metrics/mdlayher", "/", "/api/v1/status", "/-/ready")


def libraries() -> set[str]:
    """The packages that pyproject.toml names, as they are imported, and those that come with them."""
    lines = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    names = {re.split("[^a-z0-9-]", line)[0] for line in lines}
    return {MODULES.get(name, name) for name in names} | {"pygments", "_cffi_backend"}


def imported(log: str) -> set[str]:
    """The modules in what -X importtime wrote."""
    return set(re.findall(r"^import time: +\d+ \| +\d+ \| +([\w.]+)", log, re.MULTILINE))


def packages(modules: set[str]) -> set[str]:
    """The packages of these modules."""
    return {name.partition(".")[0] for name in modules}


@pytest.mark.parametrize("flags", [[], ["--no-privsep"]], ids=["as-processes", "as-one-process"])
def test_serve_imports_nothing_that_only_some_hosts_or_commands_need(tmp_path, flags):
    config = "interfaces: {exclude: ['*']}\nnames: []\n"
    environment = {"PYTHONPROFILEIMPORTTIME": "1"}
    with start_exporter(*flags, directory=tmp_path, config=config, env=environment) as exporter:
        for path in PATHS:
            assert exporter.get(path).status == 200
        exporter.process.send_signal(signal.SIGHUP)
        eventually(lambda: "configuration" in re.sub(r"(?m)^import time:.*\n", "", exporter.log()), within=30)
        time.sleep(6)  # a tick, which comes every 5 s
        for path in PATHS:
            assert exporter.get(path).status == 200
    found = imported(exporter.log())
    assert {"wg_exporter.daemon.serve", "wg_exporter.reader.reader", "wg_exporter.web.server"} <= found
    apart = os.geteuid() == 0 and not flags
    if apart:
        assert "wg_exporter.supervisor" in exporter.log()
    # Where others can't read the checkout, as below a home of mode 0700, web takes it along before it has no right.
    early = set() if not apart or all(map(readable_by_all, Docs.needs())) else {"markdown_it"}
    assert packages(found) & libraries() == NEEDED | early
    assert found & (RARE if not early else RARE - {"wg_exporter.web.markdown"}) == set()
    assert {name for name in found if name.startswith("wg_exporter.cli")} <= SERVES
    if not early:  # markdown_it brings some of them
        assert found & LARGE.keys() == set()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: nobody else has several processes")
def test_bcrypt_is_there_before_the_first_user_where_users_may_come(tmp_path):
    """By then it may be out of reach: whoever answers strangers may not read all files."""
    web = tmp_path / "web.yml"
    web.write_text("basic_auth_users: {}\n")
    config = "interfaces: {exclude: ['*']}\nnames: []\n"
    environment = {"PYTHONPROFILEIMPORTTIME": "1"}
    with start_exporter(f"--web.config.file={web}", directory=tmp_path, config=config, env=environment) as exporter:
        assert exporter.get("/metrics").status == 200
    assert "bcrypt" in packages(imported(exporter.log()))


def test_what_a_process_finds_out_about_the_types_of_messages_it_has_from_the_supervisor():
    """msgspec looks at the types of each struct once, in Python: a megabyte, if each process does that for itself."""
    program = """
        import importlib, pkgutil, sys
        import msgspec
        import wg_exporter.messages
        from wg_exporter.supervisor.forks import prepare
        modules = [one.name for one in pkgutil.iter_modules(wg_exporter.messages.__path__)]
        modules = [importlib.import_module(f"wg_exporter.messages.{name}") for name in modules]
        named = {name: value for module in modules for name, value in vars(module).items()
                 if name.startswith(("To", "From")) and module.__name__.rpartition(".")[2] != "snapshots"}
        prepare()
        looked = []
        def profile(frame, event, _argument):
            if event == "call" and frame.f_code.co_name == "get_class_annotations":
                looked.append(frame.f_code.co_name)
        sys.setprofile(profile)
        for messages in named.values():
            msgspec.msgpack.Decoder(messages)
        sys.setprofile(None)
        print(len(looked), *sorted(named))
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], cwd=ROOT, capture_output=True, check=True)
    looked, *named = done.stdout.decode().split()
    assert len(named) == 8
    assert looked == "0"


@pytest.mark.parametrize(
    ("module", "function"),
    [("wg_exporter.supervisor.forks", "prepare"), ("wg_exporter.daemon.serve", "_spare_collector")],
)
def test_what_imports_have_freed_is_given_back_before_the_rest_is_left_alone(module, function, monkeypatch):
    module, done = import_module(module), []
    for name in ("collect", "freeze", "set_threshold"):
        monkeypatch.setattr(module.gc, name, lambda *_, name=name: done.append(name))
    monkeypatch.setattr(module, "give_back", lambda: done.append("give back"))
    getattr(module, function)()
    assert done[:3] == ["collect", "give back", "freeze"]


def test_what_was_freed_goes_back_to_the_kernel():
    program = """
        from wg_exporter.linux.scarcity import give_back
        def resident():
            with open("/proc/self/statm") as file:
                return int(file.read().split()[1]) * 4096
        many = [bytes(2000) for _ in range(10_000)]
        last = bytes(2000)  # what is above all others can't be given back, so the kernel is not told of them
        del many
        before = resident()
        give_back()
        print(before - resident())
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], cwd=ROOT, capture_output=True, check=True)
    assert int(done.stdout) > 15_000_000


def test_the_benchmark_of_libraries_has_all_of_them():
    from bench.dependencies import USES

    assert {MODULES.get(name, name) for name in USES} == libraries() - {"pygments", "_cffi_backend"}
