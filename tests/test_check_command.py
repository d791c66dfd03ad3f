"""`wg-exporter check` as it is called: on files, on a host with real tunnels, and by a real Alertmanager."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import bcrypt
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.lab import SOCKETS, eventually, free_port, start_exporter, tunnel
from tests.lab.anyone import NOBODY
from tests.lab.exporting import until
from tests.lab.paging import alertmanager, inbox
from tests.test_web_tls import certificate
from wg_exporter.cli.check.finding import Severity
from wg_exporter.cli.check.look.files import conf_facts, file_fact
from wg_exporter.cli.check.look.system import listen_facts
from wg_exporter.cli.check.pager import Manager, PagerError
from wg_exporter.config import Config
from wg_exporter.linux.clock import synchronised
from wg_exporter.linux.listeners import listeners, owner, parse

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from tests.lab import Exporter, Lab, Tunnel
    from tests.lab.anyone import Anyone

ROOT = Path(__file__).parents[1]
SECRET = "correct horse"
LIST = "write it like [...], or as lines that begin with -"
NOTHING = 'interfaces: {include: ["no-such*"]}\nnames: []\n'


def run(*arguments: str | Path, wrapper: Callable[[list[str]], list[str]] = list) -> tuple[int, str, str]:
    """(exit code, standard output, standard error)."""
    done = subprocess.run(
        wrapper([sys.executable, "-m", "wg_exporter.cli", "check", *map(str, arguments)]),
        cwd=ROOT,
        env={name: value for name, value in os.environ.items() if name != "COLUMNS"},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert "Traceback" not in done.stderr
    return done.returncode, done.stdout, done.stderr


def findings(*arguments: str | Path, wrapper: Callable[[list[str]], list[str]] = list) -> dict[str, dict[str, Any]]:
    """The findings of a check by id; the last one of each."""
    _code, out, err = run("--json", *arguments, wrapper=wrapper)
    assert err == ""
    return {found["id"]: found for found in json.loads(out)["findings"]}


def hashed(cost: int = 10) -> str:
    return bcrypt.hashpw(SECRET.encode(), bcrypt.gensalt(cost)).decode()


def written(path: Path, text: str, mode: int = 0o600) -> Path:
    path.write_text(text)
    path.chmod(mode)
    return path


@pytest.fixture
def open_directory() -> Iterator[Path]:
    """A directory that every user may enter; pytest's own are closed."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


# --- files alone ----------------------------------------------------------------------------------------------------


def test_a_good_configuration_is_one_line_and_exit_code_0(tmp_path: Path) -> None:
    path = written(tmp_path / "c.yml", "expect: [{interface: wg0, state: up}]\n", 0o666)  # as GitLab's runner makes it
    code, out, err = run(f"--config.file={path}")
    assert (code, err) == (0, "")
    assert re.fullmatch(r"nothing found: \d checks\n", out)


def test_each_mistake_is_a_line_with_its_number_and_the_exit_code_is_2(tmp_path: Path) -> None:
    path = written(tmp_path / "c.yml", "probe: {intervall: 3s}\nexpect: up\n")
    code, out, err = run(f"--config.file={path}")
    assert (code, err) == (2, "")
    assert out.splitlines() == [
        f"error config-unusable {path}:1: probe.intervall: is not a known key; fix: did you mean interval?",
        f'error config-unusable {path}:2: expect: must be a list, not "up"; fix: {LIST}',
        "2 errors: 6 checks",
    ]


def test_a_file_that_is_not_there_is_exit_code_2(tmp_path: Path) -> None:
    for flag in ("--config.file", "--web.config.file"):
        code, out, _ = run(f"{flag}={tmp_path / 'none.yml'}")
        assert code == 2
        assert "none.yml: can't be read: No such file or directory" in out


def test_it_validates_a_file_as_a_user_without_any_right(open_directory: Path, anyone: Anyone) -> None:
    for text, wanted in (("names: []\n", 0), ("names: [\n", 2)):
        path = written(open_directory / "c.yml", text, 0o644)
        done = subprocess.run(
            [*NOBODY, anyone.python, "-m", "wg_exporter.cli", "check", f"--config.file={path}"],
            cwd="/",
            env=anyone.env,
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, done.stderr) == (wanted, "")


def test_a_pipe_in_place_of_a_file_does_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    code, out, _ = run(f"--config.file={tmp_path / 'pipe'}")
    assert (code, "not a regular file" in out) == (2, True)


def test_a_web_configuration_is_judged_without_the_files_that_it_names(tmp_path: Path) -> None:
    text = f"tls_server_config: {{cert_file: c.pem, key_file: k.pem}}\nbasic_auth_users: {{anna: '{hashed()}'}}\n"
    path = written(tmp_path / "web.yml", text)
    code, out, _ = run(f"--web.config.file={path}")
    assert code == 0
    assert f"not known certificate and key: {tmp_path / 'c.pem'} is not here; --host would ask for it" in out


def test_a_weak_hash_is_a_warning_that_can_be_let_through_and_neither_hash_nor_password_is_told(tmp_path: Path) -> None:
    weak = hashed(4)
    path = written(tmp_path / "web.yml", f"basic_auth_users: {{anna: '{weak}'}}\n")
    for more, wanted in (((), 1), (("--fail-on=error",), 0), (("--json",), 1)):
        code, out, _ = run(f"--web.config.file={path}", *more)
        assert code == wanted
        assert "password-weak" in out
        assert "cost 4" in out
        assert weak[7:] not in out
    code, out, _ = run(f"--web.config.file={written(path, f'basic_auth_users: {{anna: {SECRET}}}')}")
    assert code == 2
    assert SECRET not in out


def ended(path: Path, key_path: Path) -> None:
    """A certificate for this key that was valid for a day, long ago."""
    key = serialization.load_pem_private_key(key_path.read_bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "late")])
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    begins = datetime(2020, 1, 1, tzinfo=UTC)
    made = builder.not_valid_before(begins).not_valid_after(begins + timedelta(days=1)).sign(key, hashes.SHA256())
    path.write_bytes(made.public_bytes(serialization.Encoding.PEM))


def test_real_certificates_are_looked_into(open_directory: Path) -> None:
    tmp_path = open_directory
    certificate(tmp_path, "one")
    certificate(tmp_path, "two")
    users = f"basic_auth_users: {{anna: '{hashed()}'}}\n"

    def found(cert: str, key: str) -> dict[str, dict[str, Any]]:
        text = f"tls_server_config: {{cert_file: {cert}, key_file: {key}}}\n{users}"
        return findings(f"--web.config.file={written(tmp_path / 'web.yml', text)}")

    assert found("one.crt", "one.key") == {}
    assert "not a certificate and its key" in found("one.crt", "two.key")["tls-unusable"]["what"]
    assert "tls-unusable" in found("web.yml", "one.key")
    ended(tmp_path / "late.crt", tmp_path / "one.key")
    assert "tls-expired" in found("late.crt", "one.key")
    # With the host, who can read the key counts, and a file that is not there.
    (tmp_path / "one.key").chmod(0o644)
    web = f"--web.config.file={tmp_path / 'web.yml'}"
    on_host = ("--host", "--socket=", f"--config.file={written(tmp_path / 'c.yml', NOTHING)}", web)
    found("one.crt", "one.key")
    assert "tls-key-readable" in findings(*on_host)
    assert "key" not in findings(web)
    found("gone.crt", "one.key")
    assert "gone.crt: No such file" in findings(*on_host)["tls-unusable"]["what"]


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--config.file=c.yml", "--web.listen-address=:1"), "add --host"),
        (("--web.listen-address=9586",), "this is a port without a colon"),
        (("--page=http://localhost:9093", "--json"), "give it alone"),
        (("--fail-on=info",), "--fail-on"),
    ],
    ids=["address", "port", "page", "severity"],
)
def test_flags_that_do_not_go_together_are_exit_code_2(flags: Sequence[str], said: str) -> None:
    code, out, err = run(*flags)
    assert (code, out) == (2, "")
    assert said in err


# --- this host, with real tunnels -----------------------------------------------------------------------------------

CONFIG = """\
interfaces: {{include: [{interface}]}}
names: [{file}]
expect: [{{interface: {interface}, state: {state}}}]
probe: {{interval: 200ms}}
"""


def config(pair: Tunnel, state: str = "up") -> str:
    return CONFIG.format(interface=pair.hub.name, file=pair.hub.conf, state=state)


@pytest.fixture
def pair(lab: Lab) -> Tunnel:
    found = tunnel(lab)
    found.ping()
    return found


@pytest.fixture
def exporter(pair: Tunnel, tmp_path: Path) -> Iterator[Exporter]:
    path = written(tmp_path / "c.yml", config(pair))
    more = (f"--web.unix-socket={tmp_path / 's'}",)
    with start_exporter(*more, directory=tmp_path, config=path, namespace=pair.hub.namespace) as found:
        until(found, "wireguard_peer_state", 1, state="up", within=60)
        yield found


ELSEWHERE = {"users-absent", "clock-unsynchronised", "unit-disabled", "unit-failed"}
"""What a machine that runs tests may have or lack."""


@pytest.mark.lab
def test_the_exporter_that_runs_is_asked_and_each_fault_is_found(
    pair: Tunnel, exporter: Exporter, tmp_path: Path
) -> None:
    asked = f"--socket={tmp_path / 's'}"
    path = tmp_path / "c.yml"

    def found() -> dict[str, dict[str, Any]]:
        return findings(asked)

    # All is well. Its flags say where it listens and by which file it goes, and nobody named either.
    assert found().keys() <= ELSEWHERE
    code, out, err = run(asked, "--fail-on=error")
    assert (code, err) == (0, "")
    for secret in (pair.hub_keys.private, pair.spoke_keys.private):
        assert secret not in out

    # A file that is changed is not in use before a reload; a remark changes nothing.
    written(path, "# A remark.\n" + config(pair))
    assert "config-not-reloaded" not in found()
    written(path, config(pair) + "peers: [{public_key: xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=, name: x}]\n")
    assert found()["config-not-reloaded"]["where"]["file"] == str(path)
    exporter.reload()
    until(exporter, "wireguard_peer_state", 1, state="up", within=60)
    eventually(lambda: "config-not-reloaded" not in found(), within=30, every=0.5)
    assert "no peer here has this public key" in found()["config-unmatched"]["what"]

    # A reload that fails is said, and what is wrong with the file as well: the exit code is 2.
    written(path, "probe: {intervall: 1s}\n")
    exporter.reload()
    eventually(lambda: "not reloaded" in exporter.log(), within=30)
    assert {"config-unusable", "config-reload-failed"} <= found().keys()
    assert run(asked)[0] == 2

    # Nobody is expected up.
    written(path, config(pair, "any"))
    exporter.reload()
    eventually(lambda: "nothing-can-page" in found(), within=30, every=0.5)
    assert f"interface: {pair.hub.name}, state: up" in found()["nothing-can-page"]["fix"]

    # The keys of the file are everybody's to read, and the configuration everybody's to write.
    Path(pair.hub.conf).chmod(0o646)
    path.chmod(0o666)
    everybody = {"wireguard-readable", "wireguard-mode", "wireguard-writable", "config-writable"}
    assert everybody & found().keys() == (everybody - {"wireguard-mode"} if reachable(path) else {"wireguard-mode"})
    assert pair.hub_keys.private not in run(asked)[1]
    Path(pair.hub.conf).chmod(0o600)
    path.chmod(0o600)

    # The interface goes: it was expected up by nobody, and the file still describes it.
    written(path, f"interfaces: {{include: [{pair.hub.name}], expect: [{pair.hub.name}]}}\nnames: []\n")
    exporter.reload()
    pair.hub.process.send_signal(signal.SIGKILL)
    pair.hub.process.wait(30)
    eventually(lambda: "interface-gone" in found(), within=30, every=0.5)
    assert (SOCKETS / f"{pair.hub.name}.sock").exists()
    stale = found()["socket-stale"]
    assert stale["where"]["file"].endswith(f"/{pair.hub.name}.sock")
    assert Severity(stale["severity"]) is Severity.WARNING


@pytest.mark.lab
def test_failover_and_storage_that_do_not_work_are_found(pair: Tunnel, tmp_path: Path) -> None:
    key, track = json.dumps(pair.spoke_keys.public), tmp_path / "none" / "track"
    entry = f"peers: [{{public_key: {key}, name: berlin, fast: {{}}}}]\n"
    path = written(tmp_path / "c.yml", f"{config(pair)}{entry}track_files: {track}\n")
    asked = (f"--web.unix-socket={tmp_path / 's'}", f"--storage.path={tmp_path / 'nowhere'}")
    with start_exporter(*asked, directory=tmp_path, config=path, namespace=pair.hub.namespace) as exporter:
        until(exporter, "wireguard_probe_fast_up", 1, within=60)

        def found() -> dict[str, dict[str, Any]]:
            return findings(f"--socket={tmp_path / 's'}")

        faults = found()
        assert faults.keys() - ELSEWHERE == {"track-files-unwritable", "storage-unwritable"}
        assert faults["track-files-unwritable"]["where"]["file"] == str(track)
        assert faults["track-files-unwritable"]["what"] == f"there is no directory {tmp_path / 'none'}"
        kept = faults["storage-unwritable"]["what"]
        assert kept == f"events are not kept across restarts: there is no directory {tmp_path / 'nowhere'}"

        # Another directory is no matter of a reload; and a peer whose allowed IPs name no host has no target.
        written(path, f"{config(pair)}{entry}track_files: {tmp_path / 'track'}\n")
        narrow = ["wg", "set", pair.hub.name, "peer", pair.spoke_keys.public, "allowed-ips", "10.9.0.0/16"]
        pair.hub.namespace.run(narrow)
        exporter.reload()
        eventually(lambda: {"track-files-elsewhere", "fast-not-sent"} <= found().keys(), within=30, every=0.5)
        assert found()["fast-not-sent"]["where"]["peer"] == "berlin"


def reachable(path: Path) -> bool:
    """Whether every user can get there."""
    return all(parent.stat().st_mode & 0o001 for parent in path.resolve().parents)


@pytest.mark.lab
def test_where_no_exporter_runs_it_looks_for_itself_by_the_file_that_is_given(pair: Tunnel, tmp_path: Path) -> None:
    path = written(tmp_path / "c.yml", config(pair))
    mine = ("--host", f"--config.file={path}", f"--socket={tmp_path / 'none'}")
    found = findings(*mine, wrapper=pair.hub.namespace.inside)
    assert found["exporter-not-asked"]["what"].startswith("no exporter runs here")
    assert found.keys() - ELSEWHERE == {"exporter-not-asked"}
    code, out, _ = run(*mine, wrapper=pair.hub.namespace.inside)
    assert code == 1
    assert "not known who reaches the port: no exporter was asked" in out
    # Fast echoes have nowhere to go: a network of many hosts is no target.
    narrow = ["wg", "set", pair.hub.name, "peer", pair.spoke_keys.public, "allowed-ips", "10.9.0.0/16"]
    pair.hub.namespace.run(narrow)
    written(path, f"{config(pair)}peers: [{{public_key: {json.dumps(pair.spoke_keys.public)}, fast: {{}}}}]\n")
    assert "no fast echoes" in findings(*mine, wrapper=pair.hub.namespace.inside)["fast-not-sent"]["what"]
    # By another name for the interface nobody is expected up, and the entry matches nothing.
    written(path, config(pair).replace(f"interface: {pair.hub.name},", "interface: other,"))
    found = findings(*mine, wrapper=pair.hub.namespace.inside)
    assert {"config-unmatched"} <= found.keys()


@pytest.mark.lab
def test_an_exporter_with_another_configuration_is_told_from_the_one_that_is_given(
    pair: Tunnel, exporter: Exporter, tmp_path: Path
) -> None:
    path = written(tmp_path / "other.yml", config(pair))
    found = findings("--host", f"--config.file={path}", f"--socket={tmp_path / 's'}")
    assert str(tmp_path / "c.yml") in found["exporter-other-config"]["what"]


@pytest.mark.lab
def test_an_exporter_whose_reader_dies_is_not_ready(pair: Tunnel, exporter: Exporter, tmp_path: Path) -> None:
    reader = exporter.processes().get("wg-read")
    if reader is None:
        pytest.skip("needs root in the first user namespace: the exporter is one process here")
    os.kill(reader, signal.SIGSTOP)
    try:
        eventually(lambda: exporter.get("/-/ready").status == 503, within=60, every=0.5)
        found = findings(f"--socket={tmp_path / 's'}")
        assert found["exporter-not-ready"]["what"]
    finally:
        os.kill(reader, signal.SIGCONT)


# --- what is read of this host --------------------------------------------------------------------------------------


def test_a_port_that_is_taken_is_seen_with_its_owner_and_stays_untouched() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        [found] = listen_facts([f"127.0.0.1:{port}"])
        assert found.taken is not None
        assert found.taken.pid == os.getpid()
        assert not found.everywhere
        [everywhere] = listen_facts([f":{port}"])
        assert everywhere.everywhere
        assert everywhere.taken is not None
        [other] = listen_facts([f"127.0.0.2:{port}"])
        assert other.taken is None
    [free] = listen_facts([f"127.0.0.1:{port}"])
    assert (free.taken, free.problem) == (None, "")


def test_an_address_of_another_host_is_none_of_this_one() -> None:
    [found] = listen_facts(["192.0.2.77:9586"])
    assert found.problem == "this host has no address 192.0.2.77"


def test_listeners_of_both_families_are_read_and_hostile_lines_passed_over() -> None:
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as server:
        port = server.getsockname()[1]
        [inode] = [one.inode for one in listeners() if one.port == port and str(one.address) == "::1"]
        assert owner(inode)[0] == os.getpid()
    assert owner(2**40) == (0, "")
    assert list(parse("head\n\n1 2 3\n")) == []


def test_the_kernel_says_whether_its_clock_is_kept_right() -> None:
    assert synchronised() in {True, False}


def test_a_directory_that_is_closed_keeps_others_from_its_files(tmp_path: Path) -> None:
    path = written(tmp_path / "closed/wg0.conf", "", 0o644) if (tmp_path / "closed").mkdir(0o700) is None else None
    assert path is not None
    assert file_fact(path).enclosed
    assert file_fact("/etc/passwd") == file_fact(Path("/etc/passwd"))
    assert not file_fact("/etc/passwd").enclosed
    assert file_fact(tmp_path / "none").problem == "No such file or directory"


def test_files_of_keys_and_drop_ins_are_looked_at_too(tmp_path: Path) -> None:
    key = written(tmp_path / "key", "aGVsbG8=\n", 0o644)
    netdev = written(
        tmp_path / "wg0.netdev", f"[NetDev]\nName=wg0\nKind=wireguard\n[WireGuard]\nPrivateKeyFile={key}\n"
    )
    (tmp_path / "wg0.netdev.d").mkdir()
    drop_in = written(tmp_path / "wg0.netdev.d/psk.conf", "[WireGuardPeer]\nPresharedKey=aGVsbG8=\n")
    found, unseen = conf_facts(Config(names=(str(netdev),)))
    assert unseen == ""
    assert {one.file.path: one.secret for one in found} == {str(netdev): False, str(key): True, str(drop_in): True}


# --- a test page ----------------------------------------------------------------------------------------------------


@pytest.mark.prometheus
def test_a_test_page_reaches_the_pager_and_a_silence_is_told(tmp_path: Path) -> None:
    if not shutil.which("prometheus-alertmanager"):
        pytest.skip("prometheus-alertmanager: no such command; apt-get install prometheus-alertmanager")
    with inbox() as pager, alertmanager(tmp_path, pager, impatient=True) as manager:
        url = f"http://127.0.0.1:{manager.port}"
        code, out, err = run(f"--page={url}")
        assert (code, err) == (0, "")
        assert re.match(r"WireGuardTestPage was sent to pager; it ends by itself at \d\d:\d\d:\d\d\.\n", out)
        page = pager.wait("WireGuardTestPage", within=30)
        assert page.receiver == "pager"
        assert page.labels["severity"] == "critical"
        assert "A test of the pager" in page.annotations["description"]

        until_then = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 600))
        silence = [
            f"--alertmanager.url={url}",
            "silence",
            "add",
            "--author=test",
            "--comment=test",
            f"--end={until_then}",
        ]
        subprocess.run(["amtool", *silence, "alertname=WireGuardTestPage"], check=True, capture_output=True)
        code, out, err = run(f"--page={url}")
        assert (code, out) == (1, "")
        assert f"a silence in {url} keeps the page back" in err


def test_an_alertmanager_that_is_not_there_is_one_line_without_the_password() -> None:
    port = free_port()
    code, out, err = run(f"--page=http://anna:{SECRET.replace(' ', '%20')}@127.0.0.1:{port}/alert")
    assert (code, out) == (1, "")
    assert err == (
        f"Error: http://127.0.0.1:{port}/alert does not answer: Connection refused; "
        "is this the URL of the Alertmanager?\n"
    )


@pytest.mark.parametrize(
    "url", ["localhost:9093", "ftp://x", "http://", "http://x:port", "http://[::1", "http://x?a=b"]
)
def test_what_is_no_url_is_said(url: str) -> None:
    with pytest.raises(PagerError, match="write it like http://localhost:9093"):
        Manager(url)


def test_whoever_is_no_alertmanager_is_told_so(tmp_path: Path) -> None:
    with start_exporter(directory=tmp_path, config=NOTHING) as exporter:
        code, _, err = run(f"--page={exporter.url}")
    assert code == 1
    assert f"{exporter.url} refuses the alert: 4" in err
