"""A small language for hosts as `wg-exporter show` sees them: help for the tests of `show` and of its overview."""

from __future__ import annotations

import os
from pathlib import Path

from wg_exporter import model
from wg_exporter.config.health import HealthLimits
from wg_exporter.health.snapshot import judge_snapshot
from wg_exporter.health.states import NOT_JUDGED, PeerHealth, State
from wg_exporter.names.identity import PeerMeta
from wg_exporter.plan.planner import Aim
from wg_exporter.status.rows import DeviceRow, Overview, PeerRow

NOW = 1_760_000_000.0
GOLDEN = Path(__file__).parent / "data" / "show"

HOSTILE = "[red]\x1b]0;owned\x07\x1b[2J\n\u202e日本\ud83d"


def peer(
    name="", *, key="A", age=None, keepalive=0, expected=False, rx=0, tx=0, endpoint="", ips=("10.8.0.2/32",), aim=None,
    health=NOT_JUDGED, gone=False,
):  # fmt: skip
    """A peer whose key is one letter over and over; `age` is in seconds, None = never connected.

    Without `health`, its device says what one look tells of it and, of what that leaves open, the state of a peer that
    is well.
    """
    full = (key * 43)[:43] + "="
    stamp = 0 if age is None else int((NOW - age) * 1e9)
    row = model.Peer(full, endpoint, tuple(ips), keepalive, stamp, rx, tx)
    return PeerRow(row, name or full[:8], bool(name), expected, aim, health, gone)


def link(name="wg0", *, up=True, netns="", errors=0):
    return model.Link(netns, name, 3, "wireguard", up, 1420, 1234, 5678, 10, 20, 0, errors, 0, 0)


def device(*peers, name="wg0", netns="", up=True, backend=model.Backend.KERNEL, fresh=True, errors=0):
    rows = model.Peers.of(p.peer for p in peers)
    read = model.Device(netns, name, backend, "Z" * 43 + "=", 51820, 0, rows, fresh)
    there = link(name, up=up, netns=netns, errors=errors)
    metas = [PeerMeta(p.name, p.named, p.expected_up) for p in peers]
    seen = judge_snapshot(read, there, metas, NOW, HealthLimits())
    judged = (
        p if p.health.state else p._replace(health=found if found.state else _well(p))
        for p, found in zip(peers, seen, strict=True)
    )
    return DeviceRow(read, None, there, tuple(judged))


def _well(row):
    at = row.peer.last_handshake_ns / 1e9
    return PeerHealth(State.UP if at and NOW - at <= 200 + row.peer.persistent_keepalive else State.IDLE)


def gone(*peers, name="wg7", netns=""):
    """A device that vanished while these peers of it are expected up."""
    return DeviceRow(None, None, None, tuple(p._replace(gone=True) for p in peers), (netns, name))


def failed(problem, name="wg1", backend=model.Backend.USERSPACE, failure=model.Failure.OTHER):
    return DeviceRow(None, model.FailedDevice("", name, backend, problem, failure), None, ())


def host(*devices, wall=NOW, outcomes=(), problems=(), hidden=()):
    return Overview(wall, devices, tuple(outcomes), tuple(problems), hidden)


def outcome(problem="", source=model.SourceName.KERNEL, failure=model.Failure.OTHER):
    return model.Outcome(source, "", not problem, 0.01, problem, failure)


def office():
    """A hub on a bad night: of every kind of peer one."""
    lans = ("10.8.0.3/32", *(f"192.168.{third}.0/24" for third in range(40, 52)))
    v6 = "[2001:db8:1234:5678:9abc:def0:1234:5678]:40123"
    return host(
        device(
            peer("berlin-office", key="A", age=41, keepalive=25, expected=True, rx=123_456_789, tx=98_765_432,
                 endpoint="198.51.100.23:51820", ips=("10.8.0.2/32", "192.168.40.0/24", "fd00::2/128"),
                 aim=Aim("10.8.0.2", "in_subnet", "", wanted=True)),
            peer("lyon-office", key="B", age=10_800, keepalive=25, expected=True, rx=5_000_000_000, tx=7_000_000,
                 endpoint="203.0.113.77:51820", ips=lans),
            peer("paris", key="C", keepalive=25, expected=True, tx=14_800, endpoint="203.0.113.9:51820"),
            peer("anna's phone", key="D", age=3 * 86_400, rx=900_000, tx=12_000_000, endpoint=v6),
            peer(key="E"),
            peer("backup", key="F", age=4_000, expected=True, rx=1 << 40, tx=1 << 30, endpoint="192.0.2.2:51820"),
            errors=17,
        ),
        device(name="wg1", netns="blue", up=False, backend=model.Backend.USERSPACE),
        failed("its daemon hung up: Connection reset by peer", name="utun9"),
        problems=("names.yml: no such file; remove it from `names`",),
    )  # fmt: skip


def hostile_host(bad):
    row = peer(bad, age=1, endpoint=bad, ips=(bad, bad), expected=True)
    broken = peer(bad, key="B", expected=True)
    return host(
        device(row, broken, name=bad, netns=bad),
        failed(bad, name=bad),
        outcomes=[outcome(bad)],
        problems=[bad],
    )


def check_golden(name, screen):
    """Hold `screen` against the golden file; UPDATE_GOLDEN=1 writes it instead."""
    path = GOLDEN / f"{name}.txt"
    if os.environ.get("UPDATE_GOLDEN"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(screen, encoding="utf-8")
    assert screen == path.read_text(encoding="utf-8")
