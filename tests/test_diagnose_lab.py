"""`wg-exporter diagnose` on real tunnels, broken as tests/causes_lab.py knows to: it names what is broken."""

from __future__ import annotations

import json
import subprocess

import pytest
from scapy.utils import PcapNgReader

from tests.causes_lab import SCENES
from tests.causes_world import World
from tests.diagnosing import PATIENCE, command, diagnose, traces
from tests.lab import eventually
from wg_exporter.causes.cause import Cause
from wg_exporter.cli.netlab import LabError

pytestmark = pytest.mark.lab

_all = [
    pytest.param(one, id=one.id, marks=[] if one.quick else [pytest.mark.slow]) for one in SCENES
]  # the others are slow together: `python -m bench.diagnosis` has the table


@pytest.mark.parametrize("scene", _all)
def test_the_cause_is_named_that_was_made(lab, scene):
    world = World(lab, watched=scene.asks)
    scene.build(world)
    said = diagnose(world)
    assert said.cause in {scene.cause, *scene.also}, json.dumps(said.answer, indent=1) + said.steps
    assert said.code == (1 if scene.cause.fault else 0)
    assert bool(said.answer["fix"]) is scene.cause.fault
    assert said.answer["evidence"]


def test_what_differs_from_the_file_is_told_where_it_may_be_why(lab):
    """The far side has a new key. Somebody has written it into the file, and did not load it."""
    world = World(lab)
    next(one for one in SCENES if one.id == "unknown_caller").build(world)
    key = world.there.run(["wg", "show", world.far.name, "public-key"]).strip()
    text = world.device.conf.read_text()
    world.device.conf.write_text(
        text + f"\n[Peer]\n# friendly_name = anew\nPublicKey = {key}\nAllowedIPs = 10.9.0.3/32\n"
    )
    said = diagnose(world)
    assert said.cause == Cause.UNKNOWN_CALLER
    assert said.answer["evidence"][-1] == f"of that key: {world.device.conf} has it as anew, and {world.name} does not"
    assert said.answer["fix"][0].startswith(f"wg-exporter drift {world.name} ")


def test_rules_of_iptables_legacy_are_said_not_to_be_read_and_nothing_rests_on_there_being_none(lab):
    """Preshared keys that differ, which are certain where no rule drops what comes; and a table of the old iptables."""
    world = World(lab)
    next(one for one in SCENES if one.id == "preshared_differs").build(world)
    try:
        world.here.run(["iptables-legacy", "-A", "INPUT", "-p", "tcp", "--dport", "22", "-j", "DROP"])
    except LabError as error:
        pytest.skip(f"iptables-legacy: {error}")
    said = diagnose(world)
    assert "preshared_key" in (said.cause, *said.answer["also"])
    assert not any("no nftables rule" in line for line in said.answer["evidence"])
    uncertain = " ".join(said.answer["uncertain"])
    assert "the rules of iptables-legacy (table filter), which `iptables-legacy-save` prints" in uncertain


def test_packets_that_a_gateway_forwards_are_said_not_to_be_looked_at(lab):
    world = World(lab)
    world.up(keepalive=25)
    world.sysctl(world.here, "net.ipv4.ip_forward=1")
    assert "forwards for others" not in json.dumps(diagnose(world).answer)
    world.filter(world.here, "forward", f'oifname "{world.name}" drop')
    said = diagnose(world)
    assert said.cause == Cause.FINE
    (line,) = said.answer["uncertain"]
    assert line.startswith("Not looked at: packets that this host forwards for others (inet fault forward): ")


def test_nothing_is_left_behind_on_the_host(lab, tmp_path):
    world = World(lab)
    world.up()
    world.filter(world.here, "output", "udp dport 51820 counter drop")
    before = eventually(lambda: at_rest(world), within=30)
    said = diagnose(world, f"--pcap={tmp_path}/wire.pcapng")
    assert said.cause == Cause.OUTPUT_FILTERED
    after = traces(world.here) | traces(world.there)
    changed = {what: set(before[what].splitlines()) ^ set(after[what].splitlines()) for what in before}
    assert {what: lines for what, lines in changed.items() if lines} == {}


def at_rest(world: World) -> dict[str, str] | None:
    """What both hosts are like, once IPv6 has found its addresses to be its own; None before."""
    hosts = world.here, world.there
    if any("tentative" in host.ip("-6", "address", "show") for host in hosts):
        return None
    return traces(world.here) | traces(world.there)


def test_packets_are_shown_with_what_they_mean_and_kept_in_a_file(lab, tmp_path):
    world = World(lab)
    world.up(shake=False)
    file = tmp_path / "wire.pcapng"
    done = subprocess.run(
        command(world, "--packets", f"--pcap={file}"), capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "a call for a handshake, made for the peer's key" in done.stdout
    assert "to an initiation of ours that was seen leaving" in done.stdout
    assert "fine" in done.stdout
    with PcapNgReader(str(file)) as reader:
        packets = [bytes(packet) for packet in reader]
    assert any(b"\x01\0\0\0" in packet and len(packet) == 16 + 28 + 148 for packet in packets)
    assert not any(packet[16 + 28 : 16 + 32] == b"\x04\0\0\0" for packet in packets)  # no data of users


def test_closed_messages_are_left_closed_if_asked(lab):
    world = World(lab)
    next(one for one in SCENES if one.id == "unknown_caller").build(world)
    said = diagnose(world, "--no-decrypt")
    assert world.far_keys.public not in json.dumps(said.answer["evidence"])
    assert any("no-decrypt" in line for line in said.answer["uncertain"])


def test_the_exporter_that_runs_is_asked_how_the_peer_is(lab):
    world = World(lab)
    world.up(keepalive=25)
    world.serve()
    eventually(lambda: world.state() == "up", within=40, every=0.5)
    said = diagnose(world)
    assert (said.cause, said.answer["state"]) == (Cause.FINE, "up")
    assert "the exporter that runs here says: up" in said.steps
