"""A network that is known to the last number, as Prometheus would have it after twenty minutes.

    hub     wg0  alice is up, bob down, carol degraded, dave idle, erin was never heard of, gil is not judged yet
            wg1  in the namespace blue: frank is up
            wg9  zoe is degraded; nobody has chosen this interface
    spoke   wg5 is down, wg2 can't be read
    tired   its only peer, tim, is degraded
    blind   a source can't be read
    deaf    a device in the namespace red can't be read
    well    its only peer, wim, is up
    gone    has not answered for ten minutes

Numbers differ, so that none can be taken for another. Whatever is here, but for alerts, is there twice more, with other
numbers: for another job, and the hub for another instance. No panel may show anything of these.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Value = float | Callable[[int], float | None]

END = 1_767_232_740  # seconds: 2026-01-01 01:59:00, within one block of two hours
LENGTH, STEP = 1200, 15  # seconds
SILENT = 600  # seconds for which one exporter has not answered
BROKEN = 420  # seconds for which an interface has been down
DOWN = 90  # seconds for which bob has been
BUCKETS = ("0.016", "0.064", "0.256", "+Inf")
REASONS = ("no_buffer", "no_route")
VERDICTS = ("unknown", "unreachable", "ok", "remote_smaller", "fragmented_path", "blackhole", "filtered")
STATES = ("up", "idle", "never", "degraded", "down")
NAMES = ("alice", "bob", "carol", "dave", "erin", "frank", "gil", "zoe", "tim", "wim")
KEYS = {name: f"{name.upper():A<43}=" for name in NAMES}


class Series(NamedTuple):
    """One series. The value is a number, or a function of the seconds before the end; None: there is no sample."""

    name: str
    labels: dict[str, str]
    value: Value

    def at(self, before: int) -> float | None:
        return self.value(before) if callable(self.value) else self.value


class Mtu(NamedTuple):
    """What was found out about the way to a peer."""

    verdict: str
    inner: int = 0
    outer: int = 0
    needed: int = 0
    recommended: int = 0
    remote: int = 0
    checked: int = 0  # seconds ago


class Probes(NamedTuple):
    """Probes in a second, and what came of them. `answers` are those up to each of `BUCKETS`."""

    sent: float
    lost: float
    total: float = 0.0  # of the round trips, in seconds
    answers: tuple[float, ...] = ()
    shortest: float = 0.0
    jitter: float = 0.0
    errors: tuple[float, ...] = (0, 0)
    late: float = 0
    duplicates: float = 0
    earlier: float = 1  # that part of the loss and of the sum of round trips was usual until a minute ago


class Peer(NamedTuple):
    """A peer; rates are of bytes and packets in a second, `handshake` and `changed` are seconds ago."""

    name: str
    interface: str
    state: str
    reason: str = ""
    expected: int = 1
    receive: float = 0
    transmit: float = 0
    handshake: int = 0
    handshakes: float = 0
    endpoint: str = ""
    roams: float = 0
    changed: int = 0
    mtu: Mtu | None = None
    probes: Probes | None = None
    netns: str = ""
    cause: str = ""
    host: str = ""
    resolves_to: str = ""
    packets: tuple[float, float] | None = None
    fast: int | None = None  # 1 = up by fast echoes


HUB = (
    Peer(
        "alice", "wg0", "up", receive=1000, transmit=250, handshake=30, handshakes=1 / 30, endpoint="192.0.2.1:51820",
        host="alice.example", packets=(1.25, 5), fast=1,
        mtu=Mtu("ok", 1420, 1500, 1480, 1421, 1422, 600),
        probes=Probes(1, 0, 0.02, (0.5, 1, 1, 1), shortest=0.0125, jitter=0.001),
    ),
    Peer(
        "bob", "wg0", "down", "unreachable", transmit=40, handshake=400, endpoint="192.0.2.2:51820", changed=DOWN,
        host="bob.example", resolves_to="192.0.2.99", packets=(0, 0), fast=0,
        mtu=Mtu("unreachable"),
        probes=Probes(1, 1), cause="silent",
    ),
    Peer(
        "carol", "wg0", "degraded", "lossy", receive=300, transmit=600, handshake=60, endpoint="[2001:db8::3]:51820",
        roams=1 / 60, changed=700,
        mtu=Mtu("fragmented_path", 1412, 1433, 1492, 1353, 0, 120),
        probes=Probes(
            1, 0.45, 0.044, (0, 0.25, 0.75, 0.75), shortest=0.03, jitter=0.012, errors=(0.05, 0.1), late=0.2,
            duplicates=1 / 30,
        ),
    ),
    Peer("dave", "wg0", "idle", expected=0, handshake=1000, endpoint="192.0.2.4:51820", changed=800, host="gone"),
    Peer("erin", "wg0", "never", expected=0),
    Peer("gil", "wg0", ""),
    Peer(
        "frank", "wg1", "up", receive=7, transmit=5, handshake=10, endpoint="192.0.2.6:51820", netns="blue",
        mtu=Mtu("remote_smaller", 1380, 1460, 1440, 1381, 1379, 240),
        probes=Probes(1, 0.02, 0.196, (0, 0, 0.98, 0.98), shortest=0.15, jitter=0.002, earlier=0.5),
    ),
    Peer(
        "zoe", "wg9", "degraded", "slow", receive=11, transmit=13, handshake=20, endpoint="192.0.2.9:51820",
        mtu=Mtu("blackhole", 1201, 1281, 1482, 1202, 0, 30),
        probes=Probes(1, 0.5, 0.5, (0, 0, 0, 0.5), shortest=0.6, jitter=0.1),
    ),
)  # fmt: skip
TIRED = (Peer("tim", "wg0", "degraded", "slow", probes=Probes(1, 0.04, 0.384, (0, 0, 0, 0.96), shortest=0.35)),)
WELL = (Peer("wim", "wg0", "up"),)


class Interface(NamedTuple):
    """An interface; its rates are (received, sent) in a second."""

    name: str
    netns: str = ""
    up: Value = 1
    read: int = 1
    mtu: int = 1420
    peers: int = 0
    port: int = 51820
    backend: str = "kernel"
    octets: tuple[float, float] = (0, 0)
    packets: tuple[float, float] = (0, 0)
    errors: tuple[float, float] = (0, 0)
    dropped: tuple[float, float] = (0, 0)


INTERFACES = {
    "hub": (
        Interface("wg0", "", 1, 1, 1420, 6, 51820, "kernel", (1300, 890), (13, 9), (0.2, 0.4), (0.1, 0.3)),
        Interface("wg1", "blue", 1, 1, 1380, 1, 51821, "userspace", (77, 55), (7, 5), (0.6, 0.5), (0.7, 0.9)),
        Interface("wg9", "", 1, 0, 1422, 1, 51829, "kernel", (111, 133), (11, 17), (1.1, 1.3), (1.7, 1.9)),
    ),
    "spoke": (Interface("wg5", up=lambda before: float(before > BROKEN), octets=(200, 300)), Interface("wg2", read=0)),
    "tired": (Interface("wg0", peers=1),),
    "deaf": (Interface("wg0", "red", read=0),),
    "well": (Interface("wg0"),),
}


def network() -> list[Series]:
    """All of it, with what nobody may see."""
    mine = list(_job())
    alerts = list(_alerts())
    others = [one for one in mine if one.labels["job"] == "wg"]
    decoys = [_decoy(one, job="other") for one in others]
    decoys += [_decoy(one, instance="elsewhere") for one in others if one.labels.get("instance") == "hub"]
    return [*mine, *decoys, *alerts]


def text() -> str:
    """As the file that `promtool tsdb create-blocks-from openmetrics` reads."""
    lines = []
    for series in network():
        labels = ",".join(f'{name}="{value}"' for name, value in series.labels.items())
        for before in range(LENGTH, -1, -STEP):
            value = series.at(before)
            if value is not None:
                lines.append(f"{series.name}{{{labels}}} {value!r} {END - before}\n")
    return "".join(lines) + "# EOF\n"


def grows(rate: float, earlier: float = 1) -> Callable[[int], float]:
    """A counter that was high already, and that grows by so much in a second; until a minute ago, by `earlier` x it."""
    return lambda before: 5000 + rate * (earlier * (LENGTH - max(before, 60)) + max(60 - before, 0))


def _decoy(series: Series, **labels: str) -> Series:
    def other(before: int) -> float | None:
        value = series.at(before)
        return value if value is None or value in (0, 1) else 3 * value

    return Series(series.name, series.labels | labels, other)


def _job() -> Iterator[Series]:
    for instance in ("hub", "spoke", "tired", "blind", "deaf", "well", "gone"):
        yield from _exporter({"job": "wg", "instance": instance}, answers=instance != "gone")
    for instance, interfaces in INTERFACES.items():
        for interface in interfaces:
            yield from _interface({"job": "wg", "instance": instance}, interface)
    for instance, peers in (("hub", HUB), ("tired", TIRED), ("well", WELL)):
        for peer in peers:
            yield from _peer({"job": "wg", "instance": instance}, peer)
    # Another program of the host, scraped by the same Prometheus.
    yield Series("up", {"job": "node", "instance": "hub"}, 0)
    yield Series("up", {"job": "wg", "instance": "other:9100"}, 0)
    yield Series("process_cpu_seconds_total", {"job": "wg", "instance": "other:9100"}, grows(0.9))
    yield Series("process_resident_memory_bytes", {"job": "wg", "instance": "other:9100"}, 9e9)


def _exporter(where: dict[str, str], *, answers: bool) -> Iterator[Series]:
    def while_it_answered(value: float) -> Value:
        return value if answers else lambda before: value if before >= SILENT else None

    hub, blind = where["instance"] == "hub", where["instance"] == "blind"
    yield Series("up", where, 1 if answers else lambda before: float(before >= SILENT))
    versions = {"version": "0.1.0", "python_version": "3.11"}
    yield Series("wireguard_exporter_build_info", where | versions, while_it_answered(1))
    if answers:
        rows = (("kernel", "", 1, 0.004), ("userspace", "", int(not (hub or blind)), 2.25), ("links", "blue", 1, 0.008))
        for source, netns, success, duration in rows[: 3 if hub else 2]:
            labels = where | ({"netns": netns} if netns else {}) | {"source": source}
            yield Series("wireguard_exporter_source_success", labels, success)
            yield Series("wireguard_exporter_source_duration_seconds", labels, duration if hub else 2 * duration)
        yield Series("wireguard_exporter_probe_scheduling_delay_seconds", where, 0.003 if hub else 0.007)
        yield Series("process_cpu_seconds_total", where, grows(0.02 if hub else 0.05))
        yield Series("process_resident_memory_bytes", where, 50e6 if hub else 60e6)
        yield Series("process_start_time_seconds", where, END - (1100 if hub else 1150))
        reload = "wireguard_exporter_config_last_reload_success_timestamp_seconds"
        yield Series(reload, where, END - (500 if hub else 550))


def _interface(where: dict[str, str], interface: Interface) -> Iterator[Series]:
    labels = where | ({"netns": interface.netns} if interface.netns else {}) | {"interface": interface.name}
    info = {"public_key": "HUB=", "listen_port": str(interface.port), "backend": interface.backend}
    yield Series("wireguard_interface_info", labels | info, 1)
    yield Series("wireguard_interface_up", labels, interface.up)
    yield Series("wireguard_interface_read_success", labels, interface.read)
    yield Series("wireguard_interface_mtu_bytes", labels, interface.mtu)
    yield Series("wireguard_interface_peers", labels, interface.peers)
    if interface.name == "wg0":
        for kind, number in (("peer_extra", 2), ("mtu", 1), ("address", 0)):
            yield Series("wireguard_config_drift", labels | {"kind": kind}, number)
    kinds = {name: getattr(interface, name) for name in ("packets", "errors", "dropped")} | {"bytes": interface.octets}
    for kind, rates in kinds.items():
        for side, rate in zip(("receive", "transmit"), rates, strict=True):
            yield Series(f"wireguard_interface_{side}_{kind}_total", labels, grows(rate))


def _peer(where: dict[str, str], peer: Peer) -> Iterator[Series]:
    there = where | ({"netns": peer.netns} if peer.netns else {})
    labels = there | {"interface": peer.interface, "public_key": KEYS[peer.name], "peer": peer.name}

    def one(name: str, value: Value, **more: str) -> Series:
        return Series(f"wireguard_{name}", labels | more, value)

    yield one("peer_info", 1, endpoint=peer.endpoint, allowed_ips="10.0.0.0/24")
    yield one("peer_receive_bytes_total", grows(peer.receive))
    yield one("peer_transmit_bytes_total", grows(peer.transmit))
    for side, rate in zip(("receive", "transmit"), peer.packets or (), strict=False):
        yield one(f"peer_{side}_packets_total", grows(rate))
    yield one("peer_last_handshake_timestamp_seconds", END - peer.handshake if peer.handshake else 0)
    yield one("peer_handshakes_total", grows(peer.handshakes))
    yield one("peer_endpoint_changes_total", grows(peer.roams))
    if peer.host:
        moved = bool(peer.resolves_to)
        yield one("peer_endpoint_dns_success", int(peer.host != "gone"))
        if peer.host != "gone":
            yield one("peer_endpoint_dns_mismatch", int(moved))
        if moved:
            yield one("peer_endpoint_dns_info", 1, host=peer.host, resolves_to=peer.resolves_to)
    yield one("peer_expected_up", peer.expected)
    for state in STATES if peer.state else ():
        yield one("peer_state", int(state == peer.state), state=state)
    if peer.reason:
        yield one("peer_reason", 1, state=peer.state, reason=peer.reason)
    if peer.cause:
        yield one("peer_cause", 1, cause=peer.cause)
    changed = peer.changed
    yield one("peer_state_changes_total", lambda before: 3 + float(before < changed))
    down = DOWN if peer.state == "down" else 0
    yield one("peer_down_seconds_total", lambda before: 500 + max(0, down - before))
    if changed:
        yield one("peer_state_last_change_timestamp_seconds", END - changed)
    if peer.probes:
        yield from (one(name, value, target="10.0.0.2", **more) for name, more, value in _probes(peer.probes))
    if peer.fast is not None:
        yield one("probe_fast_up", peer.fast, target="10.0.0.2")
    if peer.mtu:
        yield from (one(f"mtu_{name}", value, **more) for name, more, value in _mtu(peer.mtu))


def _probes(probes: Probes) -> Iterator[tuple[str, dict[str, str], Value]]:
    name = "probe_"
    yield f"{name}sent_total", {}, grows(probes.sent)
    yield f"{name}lost_total", {}, grows(probes.lost, probes.earlier)
    yield f"{name}late_total", {}, grows(probes.late)
    yield f"{name}duplicates_total", {}, grows(probes.duplicates)
    for reason, rate in zip(REASONS, probes.errors, strict=True):
        yield f"{name}errors_total", {"reason": reason}, grows(rate)
    yield f"{name}rtt_seconds_sum", {}, grows(probes.total, probes.earlier)
    yield f"{name}rtt_seconds_count", {}, grows(probes.sent - probes.lost)
    for bound, rate in zip(BUCKETS, probes.answers, strict=False):
        yield f"{name}rtt_seconds_bucket", {"le": bound}, grows(rate)
    if probes.answers:
        yield f"{name}rtt_min_seconds", {}, probes.shortest
        yield f"{name}jitter_seconds", {}, probes.jitter


def _mtu(mtu: Mtu) -> Iterator[tuple[str, dict[str, str], Value]]:
    for verdict in VERDICTS:
        yield "verdict", {"verdict": verdict}, int(verdict == mtu.verdict)
    sizes = {"needed": mtu.needed, "recommended": mtu.recommended, "remote": mtu.remote}
    for name, size in sizes.items():
        if size:
            yield f"{name}_bytes", {}, size
    for layer, size in (("inner", mtu.inner), ("outer", mtu.outer)):
        if size:
            yield "path_bytes", {"layer": layer}, size
    if mtu.checked:
        yield "last_check_timestamp_seconds", {}, END - mtu.checked


def _alerts() -> Iterator[Series]:
    hub = {"job": "wg", "instance": "hub", "interface": "wg0"}
    bob = hub | {"peer": "bob", "public_key": KEYS["bob"]}
    carol = hub | {"peer": "carol", "public_key": KEYS["carol"]}
    alerts = (
        ("WireGuardPeerDown", "critical", "firing", bob, 60),
        ("WireGuardHighLoss", "warning", "firing", carol, 300),
        ("WireGuardMTUFault", "warning", "pending", carol, 10),
        ("WireGuardHubDown", "critical", "firing", {"public_key": KEYS["bob"]}, 45),
        ("WireGuardClockStep", "info", "firing", {"job": "wg", "instance": "spoke"}, 15),
        ("WireGuardPeerDown", "critical", "firing", bob | {"job": "other"}, 75),
        ("Watchdog", "none", "firing", {}, 900),
        ("DiskFull", "critical", "firing", {"job": "node", "instance": "hub"}, 800),
    )
    for name, severity, state, labels, begun in alerts:
        known = {"alertname": name, "severity": severity, **labels}
        yield Series("ALERTS", known | {"alertstate": state}, 1)
        yield Series("ALERTS_FOR_STATE", known, END - begun)


# What is chosen in the variables of each dashboard.
_CHOSEN = {"__rate_interval": "60s", "__range": "10m", "job": "wg", "instance": "hub", "interface": "wg0|wg1"}
VALUES = {
    "fleet": _CHOSEN | {"instance": "hub|spoke|tired|blind|deaf|well|gone|other:9100"},
    "host": _CHOSEN,
    "peer": _CHOSEN | {"peer": "|".join(KEYS[name] for name in NAMES[:6])},
}
