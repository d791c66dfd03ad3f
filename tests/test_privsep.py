"""The exporter as several processes of different users, for real: what each may do, and what becomes of the others when
one dies or hangs."""

from __future__ import annotations

import base64
import contextlib
import http.client
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import markdown_it
import mdurl
import pytest

import wg_exporter
from tests.lab import eventually, start_exporter, tunnel
from tests.lab.exporting import OPENMETRICS, scrape, star
from wg_exporter.linux import privileges
from wg_exporter.linux.privileges import NOBODY, open_to_all
from wg_exporter.supervisor.roles import NO_PROBER, NO_WEB, PROBER, WEB, user

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.lab import Exporter, Lab, Tunnel

pytestmark = [
    pytest.mark.lab,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root: it is what the exporter gives up"),
]

ALERT = "/docs/alerts/WireGuardPeerDown"
ROLES = ("wg-exporter", "wg-web", "wg-read", "wg-probe")
NET_ADMIN, NET_RAW, SETUID, SETGID, SETPCAP, KILL, DAC_READ_SEARCH = (1 << bit for bit in (12, 13, 7, 6, 8, 5, 2))


class Seen(NamedTuple):
    """A process as proc(5) has it."""

    pid: int
    uids: set[int]
    effective: int
    permitted: int
    bounding: int
    no_new_privileges: bool
    core: str


def seen(pid: int) -> tuple[str, Seen]:
    lines = (Path(f"/proc/{pid}") / "status").read_text().splitlines()
    status = dict(line.split(":\t", 1) for line in lines if ":\t" in line)
    core = re.search(r"^Max core file size +(\S+ +\S+)", Path(f"/proc/{pid}/limits").read_text(), re.MULTILINE)
    return status["Name"], Seen(
        pid,
        set(map(int, status["Uid"].split())),
        int(status["CapEff"], 16),
        int(status["CapPrm"], 16),
        int(status["CapBnd"], 16),
        status["NoNewPrivs"] == "1",
        " ".join(core[1].split()),
    )


def family(exporter: Exporter) -> dict[str, Seen]:
    """The exporter's processes by their names."""
    found = {}
    for name, pid in exporter.processes().items():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            found[name] = seen(pid)[1]
    return found


def alive(pid: int) -> bool:
    """Whether it runs; a zombie does not."""
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


class Running(NamedTuple):
    pair: Tunnel
    exporter: Exporter
    config: Path


@pytest.fixture
def running(lab: Lab, tmp_path: Path) -> Iterator[Running]:
    pair = tunnel(lab)
    pair.ping()
    config = tmp_path / "private" / "config.yml"
    config.parent.mkdir(mode=0o700)
    config.write_text(
        f"interfaces: {{include: [{pair.hub.name}]}}\nnames: [{pair.hub.conf}]\n"
        f"namespaces: [{{name: other, netns: {lab.prefix}hub}}]\n"
        f'peers: [{{public_key: "{pair.spoke_keys.public}", probe: true}}]\nprobe: {{interval: 200ms}}\n'
    )
    config.chmod(0o600)
    with start_exporter(directory=tmp_path, config=config) as exporter:
        eventually(lambda: set(family(exporter)) == set(ROLES), within=30)
        eventually(lambda: [v for _, v in scrape(exporter).all("wireguard_probe_up")] == [1], within=30)
        yield Running(pair, exporter, config)


def received(exporter: Exporter) -> float:
    return scrape(exporter).one("wireguard_peer_receive_bytes_total")


def test_each_process_has_its_own_user_and_no_right_that_it_does_not_need(running):
    found = family(running.exporter)
    enter = 1 << 21 | 1 << 19  # SYS_ADMIN and SYS_PTRACE, as a namespace is configured
    own = SETUID | SETGID | SETPCAP | KILL
    assert found["wg-exporter"].effective == own
    counting = 1 << 39  # BPF, as a later version of the file may ask for it
    assert found["wg-exporter"].permitted == own | NET_ADMIN | NET_RAW | DAC_READ_SEARCH | enter | counting
    assert found["wg-web"].uids == {user(WEB, NO_WEB).uid}
    assert found["wg-web"].permitted == found["wg-web"].bounding == 0
    assert found["wg-read"].uids == {0}
    assert found["wg-read"].permitted == NET_ADMIN | DAC_READ_SEARCH | enter
    # Where the directory of namespaces was made with an umask of 077 it is root's alone.
    namespaces_reachable = open_to_all("/run/netns/other")
    assert found["wg-probe"].uids == {user(PROBER, NO_PROBER).uid if namespaces_reachable else 0}
    assert found["wg-probe"].permitted | NET_ADMIN == NET_RAW | NET_ADMIN | enter
    for name, process in found.items():
        assert process.no_new_privileges, name
        assert process.core == "0 0", name
        assert process.bounding == process.permitted, name
    assert len({process.uids.copy().pop() for process in found.values()}) == 2 + namespaces_reachable
    assert NO_WEB != NOBODY


def test_the_process_that_answers_strangers_can_not_look_into_the_others_nor_write_anything(running):
    web = family(running.exporter)["wg-web"]
    for name, process in family(running.exporter).items():
        for file in ("mem", "environ", "maps"):
            done = subprocess.run(
                ["setpriv", f"--reuid={web.uids.copy().pop()}", "--clear-groups", "cat", f"/proc/{process.pid}/{file}"],
                capture_output=True,
                check=False,
            )
            assert b"Permission denied" in done.stderr, (name, file)


def memory(pid: int) -> bytes:
    """All that a process could write to, as a core would have it."""
    found = []
    with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as file:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            span, mode, *_rest = line.split()
            first, last = (int(end, 16) for end in span.split("-"))
            if mode.startswith("rw") and "[v" not in line:
                with contextlib.suppress(OSError):
                    file.seek(first)
                    found.append(file.read(last - first))
    return b"".join(found)


def written(key: str) -> list[bytes]:
    """A key as it may stand in memory: raw, in base64, in hex."""
    raw = base64.b64decode(key)
    return [raw, key.encode(), raw.hex().encode(), raw.hex().upper().encode()]


def test_no_secret_is_left_in_the_memory_of_any_process(lab, tmp_path):
    network = star(lab)
    with start_exporter(directory=tmp_path, config=network.config()) as exporter:
        network.ping()
        for path in ("/metrics", "/api/v1/status", "/"):
            assert exporter.get(path).status == 200
        exporter.reload()
        eventually(lambda: "configuration reloaded" in exporter.log(), within=30)
        scrape(exporter)
        found = {name: memory(process.pid) for name, process in family(exporter).items()}
    public = network.keys["hub"].public.encode()
    assert public in found["wg-web"], "this finds keys"
    assert len(found) >= 3
    for name, data in found.items():
        for secret in network.secrets():
            assert [form for form in written(secret) if form in data] == [], name


def test_all_processes_are_in_the_numbers_of_the_process(running):
    def told() -> bool:
        pids = running.exporter.processes().values()
        rolled = [Path(f"/proc/{pid}/smaps_rollup").read_text() for pid in pids]
        together = sum(int(text.split("\nPss:")[1].split()[0]) for text in rolled) * 1024
        # All of the memory of the process that serves counts, and of the others their part.
        return together < scrape(running.exporter).one("process_resident_memory_bytes") < 1.6 * together

    eventually(told, within=30)  # the supervisor tells it now and then
    assert scrape(running.exporter).one("process_open_fds") > 20


def test_when_the_reader_dies_the_scrape_says_so_and_all_comes_back(running):
    exporter = running.exporter
    running.pair.ping()
    eventually(lambda: received(exporter) > 500, within=30)
    handshakes = scrape(exporter).one("wireguard_peer_handshakes_total")
    before = family(exporter)
    os.kill(before["wg-read"].pid, signal.SIGKILL)
    lost = scrape(exporter)
    assert {value for _, value in lost.all("wireguard_exporter_source_success")} == {0}
    assert lost.one("wireguard_interface_read_success") == 0
    assert exporter.get("/-/ready").status == 503
    assert "the reader was killed by SIGKILL" in exporter.get("/-/ready").text
    assert exporter.get("/-/healthy").status == 200
    back = eventually(
        lambda: (now := scrape(exporter)).all("wireguard_peer_receive_bytes_total") and now, within=30, every=0.1
    )
    assert back.one("wireguard_peer_receive_bytes_total") >= 500
    assert back.one("wireguard_peer_handshakes_total") >= handshakes
    assert exporter.get("/-/ready").status == 200
    after = family(exporter)
    assert {name for name in ROLES if after[name].pid != before[name].pid} == {"wg-read"}
    eventually(lambda: "the reader reads again" in exporter.log(), within=30)
    time.sleep(6)  # a tick
    told = [line for line in exporter.log().splitlines() if "level=info msg=peers" not in line]
    [died] = [line for line in told if "the reader was killed by SIGKILL; it is started again in 1 s" in line]
    assert 'level=error msg="nothing can be read"' in died
    assert "kernel" in died
    assert "userspace" in died
    assert [line for line in told if "source failed" in line or "not read" in line or "works again" in line] == []


def test_when_the_prober_dies_it_is_started_again_and_its_counts_go_on(running):
    exporter = running.exporter
    eventually(lambda: scrape(exporter).one("wireguard_probe_sent_total") > 5, within=30)
    before, sent = family(exporter), scrape(exporter).one("wireguard_probe_sent_total")
    os.kill(before["wg-probe"].pid, signal.SIGKILL)
    eventually(lambda: family(exporter).get("wg-probe", before["wg-probe"]).pid != before["wg-probe"].pid, within=30)
    eventually(lambda: scrape(exporter).one("wireguard_probe_sent_total") > sent + 5, within=30)
    exporter.logged("the prober was killed by SIGKILL")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
def test_when_the_process_that_serves_dies_all_end_and_systemd_learns_of_it(running, number):
    found = family(running.exporter)
    os.kill(found["wg-web"].pid, number)
    assert running.exporter.process.wait(30) == 128 + number
    eventually(lambda: not any(alive(process.pid) for process in found.values()), within=30)
    assert f'the exporter was killed" signal={number.name}' in running.exporter.log()


def test_when_the_supervisor_is_killed_nobody_is_left(running):
    found = family(running.exporter)
    running.exporter.process.kill()
    running.exporter.process.wait(30)
    eventually(lambda: not any(alive(process.pid) for process in found.values()), within=30)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=["told to end", "its supervisor killed"])
def test_whoever_is_being_answered_when_it_ends_gets_the_answer(running, number):
    """No reset and no 500: an answer, or a refused connection."""
    found, seen = family(running.exporter), Counter()
    over = threading.Event()

    def ask() -> None:
        while not over.is_set():
            client = http.client.HTTPConnection("127.0.0.1", running.exporter.port, timeout=30)
            with contextlib.closing(client):
                try:
                    client.request("GET", "/metrics")
                    answer = client.getresponse()
                    answer.read()
                    seen[answer.status] += 1
                except ConnectionRefusedError:
                    seen["refused"] += 1
                    return
                except (OSError, http.client.HTTPException) as error:
                    seen[type(error).__name__] += 1

    clients = [threading.Thread(target=ask) for _ in range(8)]
    for client in clients:
        client.start()
    eventually(lambda: seen[200] > 8, within=30)
    begun = time.monotonic()
    running.exporter.process.send_signal(number)
    running.exporter.process.wait(30)
    eventually(lambda: not any(alive(process.pid) for process in found.values()), within=30)
    assert time.monotonic() - begun < 7.5, "or it would be killed"
    over.set()
    for client in clients:
        client.join(30)
    assert set(seen) == {200, "refused"}
    errors = [line.partition("msg=")[2] for line in running.exporter.log().splitlines() if "level=error" in line]
    killed = number == signal.SIGKILL
    assert errors == (['"the supervisor is gone, so this process ends"'] if killed else [])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_all_in_order_with_code_0(running, number):
    found = family(running.exporter)
    begun = time.monotonic()
    running.exporter.process.send_signal(number)
    assert running.exporter.process.wait(30) == 0
    assert time.monotonic() - begun < 7.5, "or it would be killed"
    assert not any(alive(process.pid) for process in found.values())
    assert "level=error" not in running.exporter.log()


def test_a_signal_to_every_process_at_once_is_no_different(running):
    """As Ctrl-C at a terminal, and `pkill -HUP wg-exporter`."""
    found = family(running.exporter)
    for process in found.values():
        os.kill(process.pid, signal.SIGHUP)
    eventually(lambda: running.exporter.log().count('msg="configuration reloaded"') == 1, within=30)
    for process in found.values():
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGINT)
    assert running.exporter.process.wait(30) == 0
    assert not any(alive(process.pid) for process in found.values())


def test_a_reload_reads_files_that_only_root_may(running):
    before = family(running.exporter)
    running.config.write_text(running.config.read_text().replace("probe: true", "probe: true, name: berlin"))
    running.exporter.reload()
    eventually(lambda: scrape(running.exporter).all("wireguard_peer_info", peer="berlin"), within=30)
    after = family(running.exporter)
    assert after["wg-web"].pid == before["wg-web"].pid
    assert after["wg-probe"].pid == before["wg-probe"].pid
    assert not alive(before["wg-read"].pid), "its configuration is not in use any more"
    # A bad file changes nothing, and is told of.
    running.config.write_text("no such key: 1\n")
    running.exporter.reload()
    eventually(lambda: scrape(running.exporter).one("wireguard_exporter_config_last_reload_successful") == 0, within=30)
    running.exporter.logged(f"{running.config}:1: ")
    assert scrape(running.exporter).all("wireguard_peer_info", peer="berlin")
    running.config.unlink()
    running.exporter.reload()
    eventually(lambda: "can't be read: No such file" in running.exporter.log(), within=30)
    # And a reader that dies meanwhile comes back with the configuration in use.
    os.kill(family(running.exporter)["wg-read"].pid, signal.SIGKILL)
    scrape(running.exporter)
    eventually(lambda: scrape(running.exporter).all("wireguard_peer_info", peer="berlin"), within=30)


def test_namespaces_that_a_reload_brings_can_be_entered(lab, tmp_path):
    pair = tunnel(lab)
    config = tmp_path / "config.yml"
    config.write_text(f"interfaces: {{include: [{pair.hub.name}]}}\nnames: []\n")
    with start_exporter(directory=tmp_path, config=config) as exporter:
        assert not scrape(exporter).all("wireguard_exporter_source_success", netns="other")
        config.write_text(config.read_text() + f"namespaces: [{{name: other, netns: {lab.prefix}hub}}]\n")
        exporter.reload()
        eventually(
            lambda: scrape(exporter).all("wireguard_interface_up", interface=pair.hub.name, netns="other"), within=30
        )
        links = scrape(exporter).one("wireguard_exporter_source_success", source="links", netns="other")
        assert links == 1


def test_a_reader_that_hangs_is_told_of_and_one_that_is_woken_goes_on(running):
    pid = family(running.exporter)["wg-read"].pid
    os.kill(pid, signal.SIGSTOP)
    begun = time.monotonic()
    hung = scrape(running.exporter)
    assert time.monotonic() - begun < 25
    assert {value for _, value in hung.all("wireguard_exporter_source_success")} == {0}
    assert "the reader gave no answer" in running.exporter.get("/-/ready").text
    os.kill(pid, signal.SIGCONT)
    eventually(lambda: scrape(running.exporter).all("wireguard_peer_receive_bytes_total"), within=30)
    assert family(running.exporter)["wg-read"].pid == pid


def test_whatever_is_imported_late_is_there_although_only_root_may_read_the_program(lab, tmp_path):
    """As in a checkout below /root."""
    pair = tunnel(lab)
    private = tmp_path / "root"
    private.mkdir(mode=0o700)
    ignore = shutil.ignore_patterns("*.pyc", "preview")
    shutil.copytree(Path(wg_exporter.__file__).parent, private / "wg_exporter", ignore=ignore)
    for library in (markdown_it, mdurl):
        shutil.copytree(Path(library.__file__).parent, private / library.__name__)
    config = f"interfaces: {{include: [{pair.hub.name}]}}\nnames: [{pair.hub.conf}]\n"
    env = {"PYTHONPATH": str(private), "PYTHONSAFEPATH": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    with start_exporter(directory=tmp_path, config=config, env=env) as exporter:
        assert (family(exporter)["wg-web"].uids, len(family(exporter))) == ({user(WEB, NO_WEB).uid}, 3)
        files = tuple(re.findall(r'"\.(/static/[^"]+)"', exporter.get("/").text))
        assert len(files) == 3
        telemetry = ("/metrics", "/metrics/mindflavor", "/metrics/mdlayher")
        for path in (*telemetry, "/", *files, "/api/v1/status", "/-/ready", "/no", "/docs/", ALERT):
            for headers in ({}, {"Accept-Encoding": "gzip"}, OPENMETRICS):
                assert exporter.get(path, headers).status == (404 if path == "/no" else 200), path
        (tmp_path / f"exporter-{exporter.port}.yml").write_text("nonsense")
        exporter.reload()
        eventually(lambda: "not reloaded" in exporter.log(), within=30)
        (tmp_path / f"exporter-{exporter.port}.yml").write_text(config)
        exporter.reload()
        eventually(lambda: "configuration reloaded" in exporter.log(), within=30)
        reader = eventually(lambda: family(exporter).get("wg-read"), within=30)
        os.kill(reader.pid, signal.SIGKILL)
        eventually(lambda: scrape(exporter).all("wireguard_peer_info"), within=30)
        assert exporter.stop() == 0
        assert "unexpected" not in exporter.log()
        errors = [line for line in exporter.log().splitlines() if "level=error" in line]
        expected = ("configuration not reloaded", "nothing can be read")
        assert [line for line in errors if not any(one in line for one in expected)] == []


def test_in_one_process_it_is_as_before(lab, tmp_path):
    pair = tunnel(lab)
    config = f"interfaces: {{include: [{pair.hub.name}]}}\nnames: [{pair.hub.conf}]\n"
    with start_exporter("--no-privsep", directory=tmp_path, config=config) as exporter:
        assert scrape(exporter).all("wireguard_peer_info")
        assert set(family(exporter)) == {Path(sys.executable).name[:15]} or len(family(exporter)) == 1
        assert "one process" not in exporter.log(), "it was asked for"


def test_where_root_may_not_be_another_user_there_is_one_process(tmp_path):
    """As in a container that was given the capabilities for devices alone."""
    config = 'interfaces: {include: ["no-such*"]}\nnames: []\n'
    wrapper = ["setpriv", "--bounding-set=-setuid,-setgid", "--inh-caps=-all"]
    with start_exporter(directory=tmp_path, config=config, wrapper=wrapper) as exporter:
        assert exporter.get("/metrics").status == 200
        assert len(exporter.processes()) == 1
        exporter.logged('level=warn msg="one process reads keys and answers strangers"')


@pytest.mark.parametrize(
    ("spans", "covered"),
    [
        ("         0          0 4294967295\n", True),
        ("0 100000 65536\n", True),
        ("0 1000 1\n", False),
        ("0 1000 1\n1 100000 65536\n", True),
        ("0 100000 1000\n", False),
        ("", False),
    ],
)
def test_whether_other_users_exist_is_told_by_the_map(tmp_path, spans, covered):
    (tmp_path / "uid_map").write_text(spans)
    assert privileges._covers(tmp_path / "uid_map") is covered
