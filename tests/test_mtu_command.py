"""`wg-exporter mtu` as it is called: whom it probes, how it ends, and exact numbers over real tunnels."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import pytest
import scapy.layers.inet6  # noqa: F401 - without it scapy takes raw packets for mere bytes
from scapy.utils import PcapNgReader

from tests.lab import eventually
from tests.lab.paths import Path as Faulty
from tests.promtool import run as tool
from tests.test_cli import ENVIRONMENT, ROOT, nothing, run  # noqa: F401 - a fixture
from tests.test_prober_verdict import FINE, HOLE, MUTE
from wg_exporter.cli.mtu.choice import Choice
from wg_exporter.cli.mtu.results import Asked
from wg_exporter.cli.mtu.run import SILENT_TIMEOUT, Check, Counters, read_counters
from wg_exporter.cli.mtu.screen import Phase
from wg_exporter.model import Device, Peer, Peers, Snapshot
from wg_exporter.probed import Verdict
from wg_exporter.prober.mtu.locate import Direction, Shrink
from wg_exporter.prober.mtu.oracle import Oracle

# --- endings that need no tunnel ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments", [["mtu", "a", "b", "c"], ["mtu", "--nope"], ["mtu", "--timeout", "0"], ["mtu", "--pcap", "."]]
)
def test_wrong_usage_exits_with_2(arguments):
    code, out, err = run(*arguments)
    assert (code, out) == (2, "")
    assert "\nError: " in err


def test_a_configuration_that_cannot_be_used_exits_with_2_before_anything_is_opened(tmp_path):
    code, out, err = run("mtu", f"--config.file={tmp_path / 'none.yml'}")
    assert (code, out) == (2, "")
    assert len(err.splitlines()) == 1


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="not root: raw sockets need CAP_NET_RAW")


@needs_root
@pytest.mark.parametrize("more", [[], ["--json"], ["wg7", "paris"]])
def test_nothing_to_check_is_one_line_and_exit_code_1(nothing, more):  # noqa: F811
    code, out, err = run("mtu", f"--config.file={nothing}", *more)
    assert (code, out) == (1, "")
    assert len(err.splitlines()) == 1
    assert err.startswith("Error: no")


@needs_root
def test_without_the_capability_one_line_names_it():
    program = [sys.executable, "-m", "wg_exporter.cli", "mtu"]
    done = subprocess.run(
        ["setpriv", "--bounding-set=-net_raw", "--inh-caps=-all", *program],
        cwd=ROOT,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stdout) == (1, "")
    [line] = done.stderr.splitlines()
    assert "CAP_NET_RAW" in line


# --- the phases -----------------------------------------------------------------------------------------------------

KEY = ("", "wg0", "A" * 43 + "=")
BERLIN = Choice(Asked(*KEY, "berlin", "10.0.0.2", 1420), peer=type("Peer", (), {"key": KEY})())
ROUTER = Shrink("192.0.2.1", 1, certain=True)


class Scripted:
    """A prober whose machines tell what they are told to: findings for each thing that is asked of it."""

    def __init__(self, **findings):
        self._findings = findings
        self._now = findings["search"]
        self.asked = []
        self.working = True

    def update(self, put, gone=()):
        self.peers = list(put.values())

    def _ask(self, what):
        self.asked.append(what)
        self._now = self._findings.get(what, self._now)
        self.working = True

    def search(self, _key):
        self._ask("search")

    def find_hop(self, _key):
        self._ask("find_hop")

    def ask_silent(self, _key):
        self._ask("ask_silent")

    def busy(self, _key):
        return self.working

    def findings(self, _key):
        return self._now

    def shrink(self, _key):
        return ROUTER if "find_hop" in self.asked else None


class Pauses:
    """In place of the exporter that is asked to be quiet."""

    def __init__(self):
        self.seen = []

    def begin(self, key, seconds):
        self.seen.append(("begin", key, seconds))

    def end(self, key):
        self.seen.append(("end", key))


@pytest.mark.parametrize("silent", [True, False])
def test_the_exporter_is_quiet_while_the_byte_counters_are_watched_and_only_then(silent):
    pauses, prober = Pauses(), Scripted(search=MUTE._replace(alive=True), ask_silent=MUTE._replace(alive=True))
    check = Check([BERLIN], prober, silent=silent, deadline=100.0, quiet=pauses)
    check.start(0.0)
    assert pauses.seen == []
    for second in range(1, 10):
        prober.working = False
        if check.step(float(second)):
            break
        if "ask_silent" in prober.asked:
            assert pauses.seen == [("begin", BERLIN.peer.key, SILENT_TIMEOUT)]
    assert ("ask_silent" in prober.asked) is silent
    assert pauses.seen[-1] == ("end", BERLIN.peer.key)
    assert (len(pauses.seen) == 2) is silent


def test_pauses_are_ended_even_if_the_check_is_broken_off(tmp_path):
    from tests.serving import running
    from wg_exporter.cli.mtu.running import Quiet
    from wg_exporter.web.unix import UnixSocket

    path = str(tmp_path / "s")
    with running(unix=UnixSocket(path)) as server:

        def broken_off():
            with Quiet(path) as quiet:
                quiet.begin(("", "wg0", "A="), 300.0)
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            broken_off()
        assert [asked["seconds"] for asked in server.app.paused] == ["300", "0"]


def walked(prober, *, silent=False):
    """The result, when each thing that is asked takes one second."""
    check = Check([BERLIN], prober, silent=silent, deadline=100.0)
    check.start(0.0)
    for second in range(1, 10):
        prober.working = False
        if check.step(float(second)):
            break
    [result] = check.results()
    return result


def test_a_path_that_is_fine_is_searched_and_nothing_more():
    prober = Scripted(search=FINE)
    assert walked(prober).advice.verdict is Verdict.OK
    assert prober.asked == ["search"]


def test_where_it_shrinks_the_hop_is_looked_for():
    prober = Scripted(search=FINE._replace(outer=1400, outer_full=False))
    result = walked(prober)
    assert prober.asked == ["search", "find_hop"]
    assert (result.shrinks_at, result.seconds) == ("192.0.2.1", 2.0)
    assert "from hop 192.0.2.1 on" in result.advice.sentence


def test_for_a_loss_on_the_way_back_no_router_on_the_way_there_is_looked_for():
    prober = Scripted(search=HOLE._replace(direction=Direction.BACK))
    walked(prober)
    assert prober.asked == ["search"]


def test_the_byte_counters_of_a_silent_peer_are_asked_only_if_that_was_wanted():
    quick = Scripted(search=MUTE)
    assert walked(quick).advice.verdict is Verdict.FILTERED
    assert quick.asked == ["search"]
    thorough = Scripted(search=MUTE, ask_silent=MUTE._replace(oracle=Oracle.LOST))
    assert walked(thorough, silent=True).advice.verdict is Verdict.BLACKHOLE
    assert thorough.asked == ["search", "ask_silent", "find_hop"]


def test_at_the_deadline_what_is_known_is_told():
    check = Check([BERLIN], Scripted(search=MUTE), silent=False, deadline=5.0)
    check.start(0.0)
    assert not check.step(4.9)
    assert [one.phase for one in check.doing(4.9)] == [Phase.SEARCHING]
    assert check.step(5.0)
    assert "--timeout" in check.results()[0].hint


def test_counters_are_those_of_the_peers_asked_for_and_of_devices_read_just_now():
    peers = Peers.of([Peer(letter * 43 + "=", "", (), 0, 0, 10, 20) for letter in "AB"])
    fresh = Device("", "wg0", "kernel", "", 0, 0, peers)
    stale = fresh._replace(netns="blue", fresh=False)
    snapshot = Snapshot(0.0, 0.0, (fresh, stale), (), {}, (), ())
    assert read_counters(snapshot, frozenset({KEY, ("blue", *KEY[1:])})) == {KEY: (10, 20)}
    with Counters(lambda: snapshot, [KEY]) as counters:
        assert eventually(counters.fresh, within=30) == {KEY: (10, 20)}
        assert counters.fresh() is None


# --- over real tunnels ----------------------------------------------------------------------------------------------


def check(path, *arguments):
    """(exit code, standard output, seconds) of the command in the near namespace."""
    began = time.monotonic()
    done = subprocess.run(
        path.a.inside([sys.executable, "-m", "wg_exporter.cli", "mtu", path.near.name, *map(str, arguments)]),
        cwd=ROOT,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert "Traceback" not in done.stderr
    return done.returncode, done.stdout, time.monotonic() - began


@pytest.mark.lab
def test_a_path_that_is_fine_is_ok_before_any_probe_would_have_been_given_up(lab):
    path = Faulty(lab)
    code, out, _ = check(path, "--json")
    [found] = json.loads(out)
    assert code == 0
    assert found.pop("seconds") < 3
    assert found == {
        "interface": path.near.name,
        "public_key": path.far_keys.public,
        "peer": path.far_keys.public[:8],
        "target": "10.0.0.2",
        "verdict": "ok",
        "interface_mtu": 1420,
        "path_mtu_inner": 1420,
        "path_mtu_outer": 1500,
        "recommended_mtu": 1420,
        "shrinks_at": None,
        "state": None,
        "reason": None,
    }


@pytest.mark.lab
def test_a_narrow_router_is_found_with_its_exact_mtu_and_what_is_recommended_helps(lab, tmp_path):
    path = Faulty(lab).narrow(1433)
    file = tmp_path / "probes.pcapng"
    code, out, _ = check(path, "--json", "--pcap", file)
    [found] = json.loads(out)
    assert code == 1
    assert found["verdict"] == "fragmented_path"
    assert (found["path_mtu_outer"], found["recommended_mtu"]) == (1433, 1360)
    assert found["shrinks_at"] == path.hop(1)
    with PcapNgReader(str(file)) as reader:
        packets = list(reader)
    inner = [packet for packet in packets if packet.sniffed_on == f"{path.near.name} (inner)"]
    outer = [packet for packet in packets if packet.sniffed_on == "to-r (outer)"]
    assert len(inner) + len(outer) == len(packets)
    assert {1420, 100} <= {packet.len for packet in inner}
    assert {1433, 1434, 1480} <= {packet.len for packet in outer}
    assert {packet.dst for packet in inner} == {"10.0.0.1", "10.0.0.2"}

    code, out, _ = check(path)
    sentence = (
        f"The path to {path.endpoint} carries 1433-byte packets from hop {path.hop(1)} on; "
        f"{path.near.name} sends up to 1480. Set its MTU to 1360, or to 1373 on both sides."
    )
    assert sentence in " ".join(out.split())
    assert f"    ip link set dev {path.near.name} mtu 1360\n" in out
    path.set_mtu(1360, far=False)
    assert check(path)[0] == 0


@pytest.mark.lab
@pytest.mark.parametrize(
    ("outer", "inner", "probe", "error"),
    [
        (
            "ipv4",
            "ipv6",
            "IP6 fd00:9::1 > fd00:9::2: ICMP6, echo request",
            "IP 192.0.2.2 > 192.0.2.1: ICMP 203.0.113.2 unreachable - need to frag (mtu 1433)",
        ),
        (
            "ipv6",
            "ipv4",
            "IP 10.0.0.1 > 10.0.0.2: ICMP echo request",
            "IP6 2001:db8:1::2 > 2001:db8:1::1: ICMP6, packet too big, mtu 1433",
        ),
    ],
)
def test_tcpdump_reads_what_passed_inside_and_outside(lab, tmp_path, outer, inner, probe, error):
    file = tmp_path / "probes.pcapng"
    check(Faulty(lab, outer=outer, inner=(inner,)).narrow(1433), "--pcap", file)
    done = tool("tcpdump", "-n", "-r", file, package="tcpdump")
    assert done.returncode == 0, done.stderr
    lines = [line.partition(" ")[2] for line in done.stdout.splitlines()]
    assert [line for line in lines if line.startswith(probe)]
    assert [line for line in lines if line.startswith(error)]
    with PcapNgReader(str(file)) as reader:
        assert len(lines) == len(list(reader))
    shown = tool("tcpdump", "-n", "-e", "-r", file, "icmp or icmp6", package="tcpdump").stdout.splitlines()
    for way, what in (("Out", "request"), ("In", "reply")):
        assert {line.split()[1] for line in shown if f"echo {what}" in line} == {way}


@pytest.mark.lab
def test_a_peer_is_chosen_by_the_start_of_its_key_and_another_name_is_one_line(lab):
    path = Faulty(lab)
    assert check(path, path.far_keys.public[:10])[0] == 0
    assert check(path, "nobody")[:2] == (1, "")


@pytest.mark.lab
def test_ctrl_c_ends_it_with_130_and_the_capture_so_far_can_be_read(lab, tmp_path):
    path = Faulty(lab).cut()
    file = tmp_path / "probes.pcapng"
    command = [sys.executable, "-m", "wg_exporter.cli", "mtu", path.near.name, "--pcap", str(file)]
    with subprocess.Popen(
        path.a.inside(command), cwd=ROOT, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        eventually(lambda: file.exists() and file.stat().st_size > 4_000, within=30)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, "")
    assert "Traceback" not in err
    with PcapNgReader(str(file)) as reader:
        assert {packet.sniffed_on for packet in reader} >= {f"{path.near.name} (inner)", "to-r (outer)"}
