"""The role for Ansible: it is read and linted here, and run twice on a bare Debian where there is time for it.

That machine is a directory, so no service starts there: systemd is told that it is offline. What is seen is which files
are written with which rights, what is checked before, and which handlers run.
"""

from __future__ import annotations

import json
import re
import shutil
import stat
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml

from tests.lab.machine import machine
from tests.promtool import ROOT
from wg_exporter.catalogue import METRICS
from wg_exporter.cli import main
from wg_exporter.config import parse

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.lab.machine import Machine

ANSIBLE = ROOT / "deploy/ansible"
ROLE = ANSIBLE / "roles/wg_exporter"
BIN = Path(sys.executable).parent
ENVIRONMENT = {"PATH": f"{BIN}:/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8", "NO_COLOR": "1"}


def load(path: str):
    return yaml.safe_load((ROLE / path).read_text())


def ansible(*command: str, home: Path) -> subprocess.CompletedProcess[str]:
    """In the directory of the role's playbooks, with nothing of the user's own."""
    return subprocess.run(
        [str(BIN / command[0]), *command[1:]],
        cwd=ANSIBLE,
        env=ENVIRONMENT | {"HOME": str(home), "ANSIBLE_HOME": str(home)},
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )


# As files


def test_the_example_is_a_playbook(tmp_path):
    done = ansible("ansible-playbook", "--syntax-check", "-i", "wireguard_gateways,", "site.example.yml", home=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_linter_has_nothing_to_say(tmp_path):
    copy = shutil.copytree(ANSIBLE, tmp_path / "ansible")  # it writes a cache beside what it reads
    done = subprocess.run(
        [BIN / "ansible-lint", "--offline", "--strict", "--profile", "production", "."],
        cwd=copy,
        env=ENVIRONMENT | {"HOME": str(tmp_path), "ANSIBLE_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_variable_has_a_meaning_a_default_and_a_use():
    options = load("meta/argument_specs.yml")["argument_specs"]["main"]["options"]
    defaults = load("defaults/main.yml")
    assert options.keys() == defaults.keys()
    used = "".join(
        path.read_text() for path in ROLE.rglob("*") if path.suffix in {".yml", ".j2"} and "meta" not in str(path)
    )
    for name, option in options.items():
        assert used.count(name) > 1, name
        # A default that is computed stands in defaults alone.
        assert "{{" in str(defaults[name]) or option["default"] == defaults[name], name


def test_the_readme_names_variables_that_there_are():
    named = set(re.findall(r"`(wg_exporter_\w+)`", (ROLE / "README.md").read_text()))
    assert named <= load("defaults/main.yml").keys()
    assert named


def test_the_unit_and_its_drop_ins_are_the_shipped_ones():
    assert (ROLE / "files/wg-exporter.service").resolve() == ROOT / "deploy/systemd/wg-exporter.service"
    choices = load("meta/argument_specs.yml")["argument_specs"]["main"]["options"]["wg_exporter_drop_ins"]["choices"]
    assert {f"{name}.conf" for name in choices} == {
        path.name for path in (ROLE / "files/wg-exporter.service.d").glob("*.conf")
    }


def test_the_configuration_of_the_example_is_one_of_the_exporter():
    (play,) = yaml.safe_load((ANSIBLE / "site.example.yml").read_text())
    variables = play["roles"][0]["vars"]
    parse(yaml.safe_dump(variables["wg_exporter_config"]), "example", [metric.name for metric in METRICS])


# On a bare machine

PLAY = """
- hosts: localhost
  connection: local
  gather_facts: false
  vars: {ansible_python_interpreter: /usr/bin/python3}
  roles: [wg_exporter]
"""
GOOD = {"expect": [{"name": "phone-*", "state": "any"}], "probe": {"interval": "5s"}}
VENV = {
    "wg_exporter_install": "venv",
    "wg_exporter_listen_addresses": ["192.0.2.1:9586", "[::1]:9586"],
    "wg_exporter_config": GOOD,
    "wg_exporter_web_config": {
        "tls_server_config": {"cert_file": "web.crt", "key_file": "web.key"},
        "basic_auth_users": {"prometheus": "$2y$10$SecretHashThatNobodySees"},
    },
    "wg_exporter_certificate": "/root/files/web.crt",
    "wg_exporter_key": "/root/files/web.key",
}
if "check" not in main.commands:
    # The exit code of a configuration that can't be used is 2; 1 says that there is nothing to show.
    VENV["wg_exporter_config_check"] = (
        "sh -c '/opt/wg-exporter/bin/wg-exporter show --socket= --config.file $0 >/dev/null; test $? -ne 2' %s"
    )


class Ran:
    """What a run of the playbook did."""

    def __init__(self, done: subprocess.CompletedProcess[str]) -> None:
        self.text = done.stdout + done.stderr
        self.code = done.returncode
        # With -v a line of where it stands comes between.
        ran = re.findall(r"RUNNING HANDLER \[(?:wg_exporter : )?([^\]]+)\].*\n(?:task path.*\n)?(\w+)", self.text)
        self.handlers = [name for name, result in ran if result != "skipping"]
        recap = re.search(r"^localhost +: ok=\d+ +changed=(\d+) .* failed=(\d+)", self.text, re.MULTILINE)
        assert recap, self.text
        self.changed, self.failed = int(recap[1]), int(recap[2])


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    with machine("bookworm", tmp_path_factory.mktemp("ansible")) as bare:
        bare.run(
            "apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends"
            " ansible-core systemd python3-venv python3-apt dpkg-dev\n"
            "python3 -m venv /root/build && /root/build/bin/pip wheel --quiet --no-deps --wheel-dir /root/files ."
        )
        bare.write("/root/files/web.crt", "a certificate\n")
        bare.write("/root/files/web.key", "a key\n")
        bare.write("/root/play.yml", PLAY)
        yield bare


def play(bare: Machine, variables: dict, *arguments: str) -> Ran:
    bare.write("/root/vars.json", json.dumps(variables))
    roles = "/root/wg-exporter/deploy/ansible/roles"
    return Ran(
        bare.run(
            f"cd /root && SYSTEMD_OFFLINE=1 LC_ALL=C.UTF-8 ANSIBLE_ROLES_PATH={roles} ansible-playbook -i localhost,"
            f" -e @/root/vars.json {' '.join(arguments)} play.yml",
            check=False,
        )
    )


@pytest.fixture(scope="module")
def wheel(bare: Machine) -> str:
    (found,) = bare.path("/root/files").glob("*.whl")
    return f"/root/files/{found.name}"


@pytest.fixture(scope="module")
def first(bare: Machine, wheel: str) -> Ran:
    return play(bare, VENV | {"wg_exporter_package": wheel}, "-vv", "--diff")


def mode(bare: Machine, path: str) -> tuple[str, int, int]:
    found = bare.path(path).stat()
    return f"{stat.S_IMODE(found.st_mode):04o}", found.st_uid, found.st_gid


@pytest.mark.slow
def test_it_installs_and_writes_its_files_with_the_rights_they_need(bare: Machine, first: Ran) -> None:
    assert (first.code, first.failed) == (0, 0), first.text
    assert first.handlers == ["Read units again", "Restart wg-exporter"]
    assert bare.run("wg-exporter --version").stdout.splitlines()[-1].startswith("wg-exporter, version ")
    assert mode(bare, "/etc/wg-exporter/config.yml") == ("0640", 0, 0)
    assert mode(bare, "/etc/wg-exporter/web.yml") == ("0600", 0, 0)
    assert mode(bare, "/etc/wg-exporter/web.key") == ("0600", 0, 0)
    written = yaml.safe_load(bare.path("/etc/wg-exporter/config.yml").read_text())
    assert written == GOOD
    assert bare.path("/etc/default/wg-exporter").read_text().splitlines()[-1] == (
        'ARGS="--web.listen-address=192.0.2.1:9586 --web.listen-address=[::1]:9586'
        ' --config.file=/etc/wg-exporter/config.yml --web.config.file=/etc/wg-exporter/web.yml"'
    )
    users = bare.path("/etc/passwd").read_text()
    assert "\nwg-exporter:" in users
    assert "\nwg-exporter-probe:" in users
    assert "\nwg-exporter-dns:" in users
    unit = bare.path("/etc/systemd/system/wg-exporter.service").read_text()
    assert unit == (ROOT / "deploy/systemd/wg-exporter.service").read_text()
    assert bare.path("/etc/systemd/system/multi-user.target.wants/wg-exporter.service").is_symlink()


@pytest.mark.slow
def test_no_secret_is_shown(first: Ran) -> None:
    assert "SecretHashThatNobodySees" not in first.text
    assert "a key" not in first.text


@pytest.mark.slow
def test_a_second_run_changes_nothing(bare: Machine, wheel: str, first: Ran) -> None:
    second = play(bare, VENV | {"wg_exporter_package": wheel})
    assert (second.code, second.changed, second.handlers) == (0, 0, []), second.text


@pytest.mark.slow
def test_another_configuration_is_reloaded_and_one_with_a_mistake_is_refused(
    bare: Machine, wheel: str, first: Ran
) -> None:
    other = VENV | {"wg_exporter_package": wheel, "wg_exporter_config": {"probe": {"interval": "10s"}}}
    reloaded = play(bare, other)
    assert (reloaded.code, reloaded.handlers) == (0, ["Reload wg-exporter"]), reloaded.text
    good = bare.path("/etc/wg-exporter/config.yml").read_text()
    refused = play(bare, other | {"wg_exporter_config": {"probe": {"intervall": "10s"}}})
    assert refused.failed == 1
    assert "intervall" in refused.text
    assert bare.path("/etc/wg-exporter/config.yml").read_text() == good


@pytest.mark.slow
def test_flags_and_drop_ins_restart_and_what_is_not_wanted_goes(bare: Machine, wheel: str, first: Ran) -> None:
    less = {"wg_exporter_install": "venv", "wg_exporter_package": wheel, "wg_exporter_drop_ins": ["namespaces"]}
    changed = play(bare, less)
    assert (changed.code, changed.handlers) == (0, ["Read units again", "Restart wg-exporter"]), changed.text
    assert bare.path("/etc/default/wg-exporter").read_text().splitlines()[-1] == 'ARGS="--web.listen-address=:9586"'
    there = {path.name for path in bare.path("/etc/systemd/system/wg-exporter.service.d").iterdir()}
    assert there == {"namespaces.conf"}
    assert not bare.path("/etc/wg-exporter/config.yml").exists()
    assert not bare.path("/etc/wg-exporter/web.yml").exists()
    both = play(bare, less | {"wg_exporter_drop_ins": ["namespaces", "unprivileged"]})
    assert "excludes the others" in both.text
    wrong = play(bare, less | {"wg_exporter_install": "rpm"})
    assert "value of wg_exporter_install must be one of" in wrong.text


@pytest.mark.slow
def test_a_package_of_debian_is_installed_once(bare: Machine) -> None:
    bare.run(
        "umask 022; mkdir -p /root/deb/DEBIAN /root/deb/usr/bin /root/deb/lib/systemd/system\n"
        "printf 'Package: wg-exporter\\nVersion: 9\\nArchitecture: all\\nMaintainer: A <a@example.net>\\n"
        "Description: stands in for the package\\n' >/root/deb/DEBIAN/control\n"
        "printf '#!/bin/sh\\nexit 0\\n' >/root/deb/usr/bin/wg-exporter; chmod 755 /root/deb/usr/bin/wg-exporter\n"
        "cp deploy/systemd/wg-exporter.service /root/deb/lib/systemd/system/\n"
        "dpkg-deb --build /root/deb /root/files/wg-exporter.deb"
    )
    variables = {"wg_exporter_package": "/root/files/wg-exporter.deb", "wg_exporter_config": GOOD}
    installed = play(bare, variables)
    assert (installed.code, installed.failed) == (0, 0), installed.text
    assert bare.path("/usr/bin/wg-exporter").exists()
    again = play(bare, variables)
    assert (again.code, again.changed) == (0, 0), again.text
