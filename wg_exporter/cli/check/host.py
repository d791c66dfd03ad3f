"""What can be read on this host: the kernel, devices, sockets, namespaces, and the rights that this takes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wg_exporter.accounted import NO_COUNTS
from wg_exporter.cli.check.finding import NOWHERE, Check, Judged, Kind, NotKnown, Severity, Where
from wg_exporter.cli.show.overview import fix_for
from wg_exporter.linux.privileges import can_count
from wg_exporter.model import Failure
from wg_exporter.status.rows import whose
from wg_exporter.status.words import first_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from wg_exporter.cli.check.facts import Facts
    from wg_exporter.status.rows import Overview, PeerRow

SOURCE_UNREAD = Kind(
    "source-unread",
    Severity.ERROR,
    "The exporter can't read a source: the devices of the kernel, control sockets, links, the files with names, or the "
    "packets that it is to count. "
    "`wireguard_exporter_source_success` of it is 0.",
    "What is missing is said beside it; docs/install.md has what each source takes.",
)
NO_NET_RAW = Kind(
    "no-net-raw",
    Severity.WARNING,
    "The exporter lacks `CAP_NET_RAW` and can't probe: a tunnel that dies is found by its age, minutes later, and "
    "there is no latency, loss or MTU, and no fast echo is sent.",
    "Grant `CAP_NET_RAW` (the unit does), or set `probe: {enabled: false}`.",
)
NO_MODULE = Kind(
    "module-not-loaded",
    Severity.INFO,
    "The kernel has no WireGuard at the moment, and no device is there. The module is loaded when the first "
    "interface is "
    "made.",
    "`modprobe wireguard`, or bring an interface up.",
)
NO_KERNEL = Kind(
    "no-kernel-support",
    Severity.WARNING,
    "The kernel has no WireGuard and no module for it, and no userspace device is there either.",
    "Install the module of this kernel, or wireguard-go.",
)
NO_DEVICES = Kind(
    "no-devices",
    Severity.WARNING,
    "There is no WireGuard device that the exporter would serve: nothing is watched.",
    "Bring one up (`wg-quick up wg0`), name its network namespace under `namespaces`, or correct `interfaces`.",
)
GONE = Kind(
    "interface-gone",
    Severity.ERROR,
    "An interface that should be there is not: the configuration expects it, or it went while peers were expected up.",
    "Bring it up, or take it out of `interfaces: expect`.",
)
UNREAD = Kind(
    "device-unread",
    Severity.ERROR,
    "A device is there and can't be read: its daemon does not answer, its socket belongs to another user, or is "
    "missing.",
    "What is wrong is said beside it.",
)
STALE = Kind(
    "socket-stale",
    Severity.WARNING,
    "A control socket is there whose daemon is gone: the interface went with it.",
    "Start the daemon again, or remove the socket.",
)
TWICE = Kind(
    "device-twice",
    Severity.WARNING,
    "Two devices have one name. Only one of them is shown.",
    "Rename one of them.",
)
NO_NAMESPACE = Kind(
    "namespace-absent",
    Severity.ERROR,
    "A network namespace of the configuration does not exist.",
    "Start what makes it, or take it out of `namespaces`.",
)
NOT_COUNTED = Kind(
    "packets-not-counted",
    Severity.WARNING,
    "The configuration has `accounting`, and the packets of a device, or of all, can't be counted exactly: so its "
    "metrics of them are absent.",
    "What is in the way is said beside it; docs/accounting.md has more.",
)
UNIT_COUNTS_NOT = Kind(
    "unit-no-accounting",
    Severity.ERROR,
    "The configuration has `accounting`, and the systemd unit lacks `CAP_BPF`, without which no packets are counted.",
    "Install the drop-in `accounting.conf` (docs/accounting.md), `systemctl daemon-reload`, and restart the service.",
)
UNIT_LACKS = Kind(
    "unit-no-namespaces",
    Severity.ERROR,
    "The configuration has `namespaces`, and the systemd unit lacks `CAP_SYS_ADMIN`, without which none can be "
    "entered.",
    "Install the drop-in `namespaces.conf` (docs/install.md), `systemctl daemon-reload`, and restart the service.",
)

NEEDS_KERNEL = "use a newer kernel, or turn `accounting` off"
_NOT_LOOKED = "the host was not looked at"


def _sources(facts: Facts) -> Iterator[Judged]:
    assert facts.host is not None  # noqa: S101 - for the type checker
    exporter = facts.host.exporter
    if exporter.overview is None:
        yield NotKnown("what can be read", _NOT_LOOKED)
        return
    absent = {place.name for place in facts.host.namespaces if place.there is False}
    for outcome in exporter.overview.outcomes:
        if outcome.success or outcome.netns in absent:
            continue
        where = f"{outcome.source} in {outcome.netns}" if outcome.netns else str(outcome.source)
        if exporter.overview.teller is None and outcome.failure is Failure.DENIED:  # it is we who may not
            yield NotKnown(f"source {where}", outcome.problem)
            continue
        what, _, fix = outcome.problem.partition("; ")
        yield SOURCE_UNREAD.at(Where(netns=outcome.netns), f"source {outcome.source}: {what}", fix)


def _probes(facts: Facts) -> Iterator[Judged]:
    assert facts.host is not None  # noqa: S101
    overview = facts.host.exporter.overview
    if overview is None or overview.teller is None:
        yield NotKnown("the right to probe", "no exporter was asked")
        return
    able = dict(overview.capabilities).get("net_raw")
    if able is None:
        yield NotKnown("the right to probe", "the exporter does not say")
    elif not able and (_echoed(facts) or any(peer.aim and peer.aim.wanted for peer in _peers(overview))):
        yield NO_NET_RAW.at(NOWHERE, "the exporter has no CAP_NET_RAW, so nothing is probed")


def _peers(overview: Overview) -> Iterator[PeerRow]:
    return (peer for device in overview.devices for peer in device.peers)


def _echoed(facts: Facts) -> bool:
    """Whether anybody should have fast echoes."""
    config = facts.config.config
    return config is not None and any(peer.fast for peer in config.peers)


def _kernel(facts: Facts) -> Iterator[Judged]:
    assert facts.host is not None  # noqa: S101
    overview, kernel = facts.host.exporter.overview, facts.host.kernel
    if kernel.family is None:
        yield NotKnown("WireGuard in the kernel", "the kernel could not be asked")
    if kernel.family or kernel.family is None or overview is None or overview.devices:
        return
    if kernel.loadable is None:
        yield NotKnown("WireGuard in the kernel", "the list of modules can't be read")
    elif kernel.loadable:
        yield NO_MODULE.at(NOWHERE, "the module `wireguard` is not loaded")
    else:
        yield NO_KERNEL.at(NOWHERE, "this kernel has no WireGuard, and no module for it")


def _devices(facts: Facts) -> Iterator[Judged]:
    assert facts.host is not None  # noqa: S101
    overview = facts.host.exporter.overview
    if overview is None:
        yield NotKnown("devices", _NOT_LOOKED)
        return
    unread = [
        outcome
        for outcome in overview.outcomes
        if not outcome.success and outcome.source not in {"conf", "links", "accounting"}
    ]
    lacking = list(_lacking(facts, overview))
    for netns, name in lacking:
        yield GONE.at(Where(netns=netns, interface=name), "the configuration expects it, and it is not there")
    if not overview.devices and not unread and not lacking:
        if overview.hidden:
            what = f"the configuration leaves out every device there is: {first_of(overview.hidden)}"
            yield NO_DEVICES.at(NOWHERE, what, "change `interfaces` in the configuration")
        else:
            yield NO_DEVICES.at(NOWHERE, "there is no WireGuard device")
    elif not overview.devices and unread:
        yield NotKnown("devices", "not all sources could be read")
    for row in overview.devices:
        netns, name = whose(row)
        where = Where(netns=netns, interface=name)
        if row.gone:
            yield GONE.at(where, "it is not there")
        elif row.failed:
            what, _, fix = f"{row.failed.problem}{fix_for(row.failed)}".partition("; ")
            if overview.teller is None and row.failed.failure is Failure.DENIED:
                yield NotKnown(f"device {name}", row.failed.problem)
            else:
                yield UNREAD.at(where, what, fix)
        elif row.device and not row.device.fresh:
            yield UNREAD.at(where, "the last read failed half way", "look at the log of the exporter")


def _lacking(facts: Facts, overview: Overview) -> Iterator[tuple[str, str]]:
    """Interfaces that the configuration expects, and of which nothing is left, in namespaces that could be read."""
    config = facts.config.config
    there = set(map(whose, overview.devices))
    bare = {"conf", "accounting"}  # they show no devices
    unread = {outcome.netns for outcome in overview.outcomes if not outcome.success and outcome.source not in bare}
    userspace = any(outcome.source == "userspace" and not outcome.success for outcome in overview.outcomes)
    for netns, name in config.interfaces.expected if config else ():
        if (netns, name) not in there and netns not in unread and not userspace:
            yield netns, name


def _sockets(facts: Facts) -> Iterator[Judged]:
    assert facts.host is not None  # noqa: S101
    overview = facts.host.exporter.overview
    if overview is None:
        return
    for note in overview.notes:
        path, _, what = note.partition(": ")
        if path.endswith(".sock"):
            said, _, fix = what.partition("; ")
            yield STALE.at(Where(path), said, fix)
    for line in overview.doubles:
        yield TWICE.at(NOWHERE, line)


def _namespaces(facts: Facts) -> Iterator[Judged]:
    assert facts.host is not None  # noqa: S101
    for place in facts.host.namespaces:
        if place.there is None:
            yield NotKnown(f"namespace {place.name}", f"{place.path} can't be looked at")
        elif not place.there:
            yield NO_NAMESPACE.at(Where(place.path, netns=place.name), "there is no such namespace")
    unit = facts.host.unit
    if unit and facts.host.namespaces and unit.capabilities is not None and "cap_sys_admin" not in unit.capabilities:
        yield UNIT_LACKS.at(Where("wg-exporter.service"), "its CapabilityBoundingSet lacks CAP_SYS_ADMIN")


def _accounting(facts: Facts) -> Iterator[Judged]:
    assert facts.host is not None  # noqa: S101
    config, overview, unit = facts.config.config, facts.host.exporter.overview, facts.host.unit
    if config is None or not config.accounting.enabled:
        return
    able = {"cap_bpf", "cap_sys_admin"}
    if unit and unit.capabilities is not None and not unit.capabilities & able:
        yield UNIT_COUNTS_NOT.at(Where("wg-exporter.service"), "its CapabilityBoundingSet lacks CAP_BPF")
    if overview is None or overview.teller is None:
        release = facts.host.kernel.release
        if release and not can_count(release):
            yield NOT_COUNTED.at(NOWHERE, f"this kernel is {release}, and counting takes Linux 5.7", NEEDS_KERNEL)
        else:
            yield NotKnown("packets of peers", "no exporter was asked")
        return
    for note in overview.notes:
        interface, counted, why = note.partition(NO_COUNTS)
        if counted:
            what, _, fix = why.partition("; ")
            yield NOT_COUNTED.at(Where(interface=interface), f"packets are not counted: {what}", fix)


CHECKS = (
    Check("what can be read", (SOURCE_UNREAD,), _sources),
    Check("the right to probe", (NO_NET_RAW,), _probes),
    Check("WireGuard in the kernel", (NO_MODULE, NO_KERNEL), _kernel),
    Check("devices", (NO_DEVICES, GONE, UNREAD), _devices),
    Check("control sockets", (STALE, TWICE), _sockets),
    Check("network namespaces", (NO_NAMESPACE, UNIT_LACKS), _namespaces),
    Check("packets of peers", (NOT_COUNTED, UNIT_COUNTS_NOT), _accounting),
)
