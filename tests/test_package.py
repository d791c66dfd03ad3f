"""What packages ship beside the program: man pages, completion, the configuration, users, the unit."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from wg_exporter.catalogue import NAMES
from wg_exporter.cli import main
from wg_exporter.config import Config, load
from wg_exporter.supervisor.roles import PROBER, RESOLVER, WEB

ROOT = Path(__file__).parents[1]
PAGES = ["wg-exporter", *(f"wg-exporter-{name}" for name in sorted(main.commands))]


@pytest.fixture(scope="module")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory that deploy/generate.py wrote."""
    directory = tmp_path_factory.mktemp("shipped")
    environment = {"PATH": os.environ["PATH"], "SOURCE_DATE_EPOCH": "1769817600"}
    script = str(ROOT / "deploy/generate.py")
    subprocess.run([sys.executable, script, str(directory)], check=True, cwd="/", env=environment)
    return directory


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory for PATH with `wg-exporter` in it, as the Debian package has it but for the interpreter."""
    directory = tmp_path_factory.mktemp("bin")
    path = directory / "wg-exporter"
    first, _, rest = (ROOT / "deploy/debian/program").read_text().partition("\n")
    assert first == "#!/usr/lib/wg-exporter/bin/python3 -I"
    path.write_text(f"#!{sys.executable} -I\n{rest}")
    path.chmod(0o755)
    return directory


def test_each_command_has_a_man_page(shipped):
    assert sorted(path.name for path in shipped.glob("*.1")) == sorted(f"{page}.1" for page in PAGES)


@pytest.mark.parametrize("page", PAGES)
def test_a_man_page_is_right_for_man_and_for_mandoc(shipped, page):
    lacking = [tool for tool in ("man", "mandoc") if not shutil.which(tool)]
    if lacking:
        pytest.skip(f"{lacking}: no such command; apt-get install man-db mandoc")
    for command in (
        ["man", "--warnings", "-E", "UTF-8", "-l", "-Tutf8", "-Z"],
        ["mandoc", "-T", "lint", "-W", "warning"],
    ):
        done = subprocess.run([*command, f"{page}.1"], cwd=shipped, capture_output=True, text=True, check=False)
        problems = done.stderr if command[0] == "man" else done.stdout
        assert (done.returncode, problems) == (0, "")


@pytest.mark.parametrize("name", sorted(main.commands))
def test_a_man_page_has_every_flag_and_a_hyphen_that_can_be_copied(shipped, name):
    text = (shipped / f"wg-exporter-{name}.1").read_text()
    assert main.commands[name].params
    for param in main.commands[name].params:
        for flag in [name for name in param.opts if name.startswith("-")]:
            assert rf"\fB{flag.replace('-', chr(92) + '-')}\fR" in text
    assert "2026-01-31" in text.splitlines()[1]


def test_the_shipped_configuration_changes_nothing(shipped):
    assert load(shipped / "config.yml", NAMES) == Config()


def test_without_its_marks_the_shipped_configuration_is_the_example(shipped, tmp_path):
    """`# x` is prose; a setting begins with `#`, then its own indentation of two blanks or more."""
    text = (shipped / "config.yml").read_text()
    path = tmp_path / "config.yml"
    path.write_text(re.sub(r"^#(?! \S|$)", "", text, flags=re.MULTILINE))
    assert yaml.safe_load(path.read_text()) == yaml.safe_load((ROOT / "docs/config.example.yml").read_text())
    load(path, NAMES)


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("sh", ["show"]),
        ("", ["check", "demo", "diagnose", "drift", "events", "export", "mtu", "quiet", "serve", "show", "up"]),
        ("serve --web.l", ["--web.listen-address"]),
    ],
    ids=["a-command", "nothing", "a-flag"],
)
def test_bash_completes(shipped, program, typed, expected):
    words = ["wg-exporter", *typed.split(" ")]
    script = (
        f". {shipped}/bash/wg-exporter; complete -p wg-exporter >/dev/null || exit 3; "
        f"COMP_WORDS=({' '.join(word or chr(39) * 2 for word in words)}) COMP_CWORD={len(words) - 1}; "
        "_wg_exporter_completion wg-exporter; printf '%s\\n' \"${COMPREPLY[@]}\""
    )
    environment = {**os.environ, "PATH": f"{program}:{os.environ['PATH']}"}
    done = subprocess.run(["bash", "-c", script], env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split() == expected


def test_zsh_gets_a_completion_that_it_loads_when_it_is_asked_for(shipped):
    text = (shipped / "zsh/_wg-exporter").read_text()
    assert text.startswith("#compdef wg-exporter\n")
    if shutil.which("zsh"):  # nothing else that is tested needs it
        subprocess.run(["zsh", "-n", str(shipped / "zsh/_wg-exporter")], check=True)


def test_the_users_that_a_package_makes_are_those_that_the_processes_become():
    text = (ROOT / "deploy/systemd/wg-exporter.sysusers").read_text()
    users = [line.split()[1] for line in text.splitlines() if line.startswith("u ")]
    assert users == [WEB, PROBER, RESOLVER]


def test_the_unit_has_what_the_package_replaces():
    """deploy/debian/build puts its own paths there, and stops if it can't."""
    lines = (ROOT / "deploy/systemd/wg-exporter.service").read_text().splitlines()
    assert [line for line in lines if "/opt/" in line] == ["ExecStart=/opt/wg-exporter/bin/wg-exporter serve $ARGS"]
    assert len([line for line in lines if line.startswith("# Flags, for example:")]) == 1
