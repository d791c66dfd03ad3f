"""The container: what its file says, and, where there is time for it, an image that is built and serves.

No registry is needed: the image that it is made from is a bare Debian of the mirror. Buildah runs it in a chroot with
the capabilities of docs/containers.md, as it does in places that have neither cgroups nor a runtime of their own.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.request import urlopen

import pytest

from tests.kubernetes import container as pod
from tests.lab import SOCKETS, eventually, free_port
from tests.lab.exporting import Metrics, lab_or_skip, star
from tests.lab.machine import machine
from tests.promtool import ROOT
from tests.surroundings import OUTSIDE, outside
from tests.test_systemd import UNIT
from wg_exporter import __version__

if TYPE_CHECKING:
    from collections.abc import Iterator

FILE = ROOT / "deploy/Containerfile"
IGNORED = ROOT / "deploy/Containerfile.dockerignore"
PAGE = ROOT / "docs/containers.md"
# What Buildah gives by default, and docs/containers.md takes away by --cap-drop=all.
DEFAULT = {
    *("AUDIT_WRITE", "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID"),
    *("MKNOD", "NET_BIND_SERVICE", "SETFCAP", "SETPCAP", "SYS_CHROOT"),
}
BUILD_TIMEOUT = 1800.0


def instructions() -> list[tuple[str, str]]:
    """The instructions of the file, with what they are told; comments and continued lines are no more."""
    lines = [line for line in FILE.read_text().splitlines() if line.strip() and not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n", " ", "\n".join(lines))
    return [(line.partition(" ")[0], line.partition(" ")[2].strip()) for line in joined.splitlines()]


def final() -> list[tuple[str, str]]:
    """Those of the last stage, which is what runs."""
    found = instructions()
    last = max(number for number, (name, _) in enumerate(found) if name == "FROM")
    return found[last:]


def unit_capabilities() -> set[str]:
    line = re.search(r"^CapabilityBoundingSet=(.*)$", UNIT.read_text(), re.MULTILINE)[1]
    return {name.removeprefix("CAP_") for name in line.split()}


# As a file


def test_it_knows_only_instructions_that_there_are_and_begins_with_what_it_is_made_from() -> None:
    known = {"ARG", "FROM", "RUN", "WORKDIR", "COPY", "ENV", "LABEL", "EXPOSE", "STOPSIGNAL", "ENTRYPOINT", "CMD"}
    names = [name for name, _ in instructions()]
    assert set(names) <= known
    assert names[:2] == ["ARG", "FROM"]
    assert [text for name, text in instructions() if name == "FROM"] == ["${BASE} AS build", "${BASE}"]


def test_what_runs_has_neither_pip_nor_the_sources() -> None:
    installed = " ".join(text for name, text in final() if name == "RUN")
    assert not re.search(r"python3-venv|pip|python3-pip", installed)
    assert [text for name, text in final() if name == "COPY"] == ["--from=build /opt/wg-exporter /opt/wg-exporter"]


def test_it_serves_by_default_and_ends_by_the_signal_that_the_program_knows() -> None:
    said = dict(final())
    assert json.loads(said["ENTRYPOINT"]) == ["/opt/wg-exporter/bin/wg-exporter"]
    assert json.loads(said["CMD"]) == ["serve"]
    assert (said["EXPOSE"], said["STOPSIGNAL"]) == ("9586", "SIGTERM")


def test_only_what_is_built_from_goes_into_the_build() -> None:
    lines = [line for line in IGNORED.read_text().splitlines() if line and not line.startswith("#")]
    assert lines[0] == "*"
    kept = {line.removeprefix("!") for line in lines if line.startswith("!")}
    assert kept == {"LICENSE", "README.md", "pyproject.toml", "wg_exporter", "deploy/requirements.lock"}
    assert all((ROOT / name).exists() for name in kept - {"deploy/requirements.lock"})


def test_the_page_gives_the_rights_of_the_unit_and_so_does_kubernetes() -> None:
    added = {name.upper() for name in re.findall(r"--cap-add=(\w+)", PAGE.read_text())}
    assert added == unit_capabilities() == set(pod()["securityContext"]["capabilities"]["add"])
    assert "--cap-drop=all" in PAGE.read_text()


# As an image


class Image:
    """A storage of our own, so that nothing of this machine's is touched."""

    def __init__(self, directory: Path) -> None:
        self._settings = directory / "storage.conf"
        graph, run = directory / "graph", directory / "run"
        self._settings.write_text(f'[storage]\ndriver = "vfs"\ngraphroot = "{graph}"\nrunroot = "{run}"\n')

    @property
    def env(self) -> dict[str, str]:
        return OUTSIDE | {"CONTAINERS_STORAGE_CONF": str(self._settings)}

    def buildah(self, *arguments: str | Path) -> str:
        """Its output; fails with all of it."""
        command = outside(["buildah", *map(str, arguments)])
        done = subprocess.run(
            command, env=self.env, capture_output=True, text=True, check=False, timeout=BUILD_TIMEOUT, cwd=ROOT
        )
        assert done.returncode == 0, f"{command}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        return done.stdout

    def run(self, container: str, *command: str, options: tuple[str, ...] = ()) -> list[str]:
        """The command line that runs one in the container, in the network of the test."""
        dropped = [f"--cap-drop=CAP_{name}" for name in sorted(DEFAULT - unit_capabilities())]
        added = [f"--cap-add=CAP_{name}" for name in sorted(unit_capabilities())]
        return ["buildah", "run", "--isolation=chroot", *dropped, *added, *options, container, "--", *command]


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Image]:
    if os.geteuid() != 0 or not shutil.which("buildah"):
        pytest.skip("needs root and buildah: apt-get install buildah")
    directory = tmp_path_factory.mktemp("container")
    image = Image(directory)
    with machine("trixie", directory) as bare:
        base = image.buildah("from", "scratch").strip()
        mounted = image.buildah("mount", base).strip()
        copied = f"tar -C {bare.root} --one-file-system --exclude ./root/wg-exporter -c . | tar -C {mounted} -x"
        subprocess.run(["sh", "-c", copied], check=True, timeout=600)
        image.buildah("umount", base)
        image.buildah("commit", "--rm", base, "localhost/debian:trixie-slim")
    try:
        image.buildah(
            "build",
            "--isolation=chroot",
            f"--file={FILE}",
            f"--ignorefile={IGNORED}",
            "--build-arg=BASE=localhost/debian:trixie-slim",
            f"--build-arg=VERSION={__version__}",
            "--tag=wg-exporter",
            ".",
        )
        yield image
    finally:
        subprocess.run(["rm", "-rf", str(directory / "graph")], check=False, timeout=600)


@pytest.fixture(scope="module")
def container(image: Image) -> str:
    return image.buildah("from", "wg-exporter").strip()


def inside(image: Image, container: str, *command: str) -> str:
    done = subprocess.run(
        image.run(container, *command), env=image.env, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
def test_the_image_has_the_program_its_labels_and_no_pip(image: Image, container: str) -> None:
    said = json.loads(image.buildah("inspect", "--type=image", "wg-exporter"))["OCIv1"]["config"]
    assert said["Entrypoint"] == ["/opt/wg-exporter/bin/wg-exporter"]
    assert said["ExposedPorts"] == {"9586": {}} or said["ExposedPorts"] == {"9586/tcp": {}}
    labels = {name: value for name, value in said["Labels"].items() if name.startswith("org.opencontainers.image.")}
    assert labels["org.opencontainers.image.version"] == __version__
    assert labels["org.opencontainers.image.licenses"] == "MIT"
    assert inside(image, container, "wg-exporter", "--version").strip() == f"wg-exporter, version {__version__}"
    found = inside(
        image, container, "sh", "-c", "ls /opt/wg-exporter/bin /opt/wg-exporter/lib/python3*/site-packages; ls /"
    )
    assert "pip" not in found.split()
    assert not {"src", "wheels", "build"} & set(found.split())
    users = inside(image, container, "cat", "/etc/passwd")
    assert "\nwg-exporter:x:61000:" in users
    assert "\nwg-exporter-probe:x:61001:" in users
    assert "\nwg-exporter-dns:x:61002:" in users


@pytest.mark.slow
@pytest.mark.lab
def test_it_serves_devices_with_their_names_as_processes_apart(image: Image, container: str, tmp_path: Path) -> None:
    """The namespaces of the lab are entered by nobody here: of a userspace device the socket is enough."""
    with lab_or_skip(tmp_path / "lab") as lab:
        network = star(lab)
        network.ping()
        port = free_port()
        (tmp_path / "files").mkdir(mode=0o700)
        shutil.copy(network.hub.conf, tmp_path / "files" / f"{network.hub.name}.conf")
        (tmp_path / "files" / f"{network.hub.name}.conf").chmod(0o600)
        options = (f"--volume={SOCKETS}:/run/wireguard:ro", f"--volume={tmp_path / 'files'}:/etc/wireguard:ro")
        serve = ("wg-exporter", "serve", f"--web.listen-address=127.0.0.1:{port}")
        with (tmp_path / "log").open("wb") as log:
            process = subprocess.Popen(
                image.run(container, *serve, options=options),
                env=image.env,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        try:

            def named() -> Metrics | None:
                assert process.poll() is None, (tmp_path / "log").read_text()
                try:
                    with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as answer:
                        metrics = Metrics(answer.read().decode())
                except OSError:
                    return None
                found = metrics.all("wireguard_peer_info", interface=network.hub.name)
                return metrics if {labels["peer"] for labels, _ in found} == {"near", "far"} else None

            metrics = eventually(named, within=60, every=0.3)
            able = {labels["name"]: value for labels, value in metrics.all("wireguard_exporter_capability")}
            assert {able[name] for name in ("net_admin", "net_raw", "uapi", "conf_read")} == {1}
            assert {"wg-exporter": 0, "wg-web": 61000, "wg-read": 0}.items() <= users_of(str(port)).items()
        finally:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait(60)


def users_of(mark: str) -> dict[str, int]:
    """The users of the processes whose command line has this in it, by the names that ps(1) shows."""
    found = {}
    for path in Path("/proc").glob("[0-9]*"):
        try:
            if mark in (path / "cmdline").read_text() and "serve" in (path / "cmdline").read_text():
                line = re.search(r"^Uid:\s+(\d+)", (path / "status").read_text(), re.MULTILINE)
                found[(path / "comm").read_text().strip()] = int(line[1]) if line else -1
        except OSError:
            continue  # it has just ended
    return found
