"""The files of WireGuard: who can read their keys or change what root runs, and what in them can't be meant so.

How a running device differs from its file is shown by `wg-exporter drift`; here it is one finding for each.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from wg_exporter.cli.check.config import octal, writable
from wg_exporter.cli.check.finding import NOWHERE, Check, Judged, Kind, NotKnown, Severity, Where
from wg_exporter.drift.kinds import Kind as DriftKind
from wg_exporter.hostnames import MEANINGS
from wg_exporter.status.rows import whose
from wg_exporter.status.words import first_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from wg_exporter.cli.check.facts import Facts
    from wg_exporter.model import ConfFile

READABLE = Kind(
    "wireguard-readable",
    Severity.ERROR,
    "Every user of this host can read a private or preshared key of WireGuard: in its file, or in a file that this "
    "names.",
    "`chmod 600` the file (of systemd-networkd: `chown root:systemd-network`, `chmod 640`), and change the keys, as "
    "these are known.",
)
MODE = Kind(
    "wireguard-mode",
    Severity.INFO,
    "A file with a private or preshared key is readable for all, and only a directory above it keeps others out. "
    "`wg-quick` warns of it, too.",
    "`chmod 600` the file.",
)
WRITABLE = Kind(
    "wireguard-writable",
    Severity.ERROR,
    "Every user of this host can change a file of WireGuard, in which `PostUp` names commands that root runs.",
    "`chmod o-w` the file or its directory.",
)
OWNER = Kind(
    "wireguard-owner",
    Severity.WARNING,
    "A file of WireGuard does not belong to root. Its owner can have root run commands (`PostUp`), and the service can "
    "only read it if all users can.",
    "`chown root` the file.",
)
SYNTAX = Kind(
    "wireguard-syntax",
    Severity.WARNING,
    "A line of a file of WireGuard is not understood, or the file can't be read: peers may lack their names, and may "
    "not be expected up.",
    "Correct the line, or leave the file out of `names` in the configuration.",
)
SAME_INTERFACE = Kind(
    "interface-twice",
    Severity.WARNING,
    "Two files describe one interface. Which one made it is not known, and names and expectations come from both.",
    "Remove one, or leave it out of `names` in the configuration.",
)
SAME_ALLOWED_IPS = Kind(
    "allowed-ips-twice",
    Severity.WARNING,
    "Two peers in a file have the same allowed IP. WireGuard gives it to the last one, and the other gets nothing.",
    "Correct `AllowedIPs` of one of them.",
)
ABSENT = Kind(
    "interface-absent",
    Severity.INFO,
    "A file describes an interface that is not there. Nobody is told of it unless it was there before, or the "
    "configuration expects it.",
    "Bring it up (`wg-quick up NAME`), or name it under `interfaces: expect` if it must exist.",
)
DRIFT = Kind(
    "interface-drift",
    Severity.WARNING,
    "An interface is another than the file that describes it, and becomes what that says at its next start.",
    "`wg-exporter drift` shows the differences, and for each direction what to do.",
)
SAME_KEY = Kind(
    "private-key-twice",
    Severity.INFO,
    "Two interfaces have the same public key, and so the same private key. Peers can't tell them apart, and none can "
    "have both of them as its peers.",
    "Give each interface a key of its own (`wg genkey`), unless it is meant so.",
)
SAME_NAME = Kind(
    "name-twice",
    Severity.INFO,
    "Two peers of an interface have the same name. Their metrics differ by the key alone, and people can't tell which "
    "one a page is about.",
    "Give one of them another name in its comment, or under `peers` in the configuration.",
)
UNRESOLVED = Kind(
    "endpoint-unresolved",
    Severity.WARNING,
    "The host name that a file gives a peer as its endpoint does not resolve. The tunnel may be up; when the interface "
    "is set up the next time, `wg` fails for it.",
    "Correct the name, in DNS or in the file. `getent ahosts NAME` shows what this host makes of it.",
)


def _files(facts: Facts) -> Iterator[Judged]:
    assert facts.host is not None  # noqa: S101 - for the type checker
    if facts.host.conf_unseen:
        yield NotKnown("files of WireGuard", facts.host.conf_unseen)
    for found in facts.host.conf:
        if found.file.problem:
            yield NotKnown("files of WireGuard", f"{found.file.path}: {found.file.problem}")


def _readable(facts: Facts) -> Iterator[Judged]:
    assert facts.host is not None  # noqa: S101
    yield from _files(facts)
    for found in facts.host.conf:
        file = found.file
        if file.problem or not found.secret or not file.mode & 0o004:
            continue
        what, fix = f"every user can read its keys ({octal(file.mode)})", f"chmod 600 {file.path}"
        if file.path.startswith("/etc/systemd/"):
            fix = f"chown root:systemd-network {file.path} && chmod 640 {file.path}"
        if file.enclosed:
            yield MODE.at(Where(file.path), f"only its directory keeps others from its keys ({octal(file.mode)})", fix)
        else:
            yield READABLE.at(Where(file.path), what, f"{fix}, and change the keys, as these are known")


def _writable(facts: Facts) -> Iterator[Judged]:
    assert facts.host is not None  # noqa: S101
    for found in facts.host.conf:
        if found.secret or (found.row and found.row.interface):
            yield from writable(WRITABLE, found.file)


def _owner(facts: Facts) -> Iterator[Judged]:
    assert facts.host is not None  # noqa: S101
    for found in facts.host.conf:
        file = found.file
        if not file.problem and file.uid and (found.secret or (found.row and found.row.interface)):
            yield OWNER.at(Where(file.path), f"it belongs to uid {file.uid}", f"chown root {file.path}")


def _rows(facts: Facts) -> Iterator[ConfFile]:
    assert facts.host is not None  # noqa: S101
    yield from (found.row for found in facts.host.conf if found.row)


def _syntax(facts: Facts) -> Iterator[Judged]:
    for row in _rows(facts):
        for problem in row.problems:
            line, _, rest = problem.removeprefix(f"{row.path}:").partition(":")
            number = int(line) if line.strip().isdigit() else 0
            what, _, fix = (rest if number else problem.removeprefix(f"{row.path}:")).strip().partition("; ")
            yield SYNTAX.at(Where(row.path, number), what, fix)


def _twice(facts: Facts) -> Iterator[Judged]:
    described: dict[str, str] = {}
    for row in _rows(facts):
        if row.interface:
            first = described.setdefault(row.interface, row.path)
            if first != row.path:
                yield SAME_INTERFACE.at(Where(row.path, interface=row.interface), f"{first} describes it, too")
        if row.saved:  # wg-quick has written it, as the device had it
            continue
        seen: dict[str, str] = {}
        for peer in row.peers:
            for network in dict.fromkeys(peer.allowed_ips):
                first = seen.setdefault(network, peer.public_key)
                if first != peer.public_key:
                    names = {one.public_key: one.name or f"{one.public_key[:8]}..." for one in row.peers}
                    what = f"{names[first]} and {names[peer.public_key]} both have {network}; the last one gets it"
                    yield SAME_ALLOWED_IPS.at(Where(row.path, interface=row.interface), what)


def _absent(facts: Facts) -> Iterator[Judged]:
    assert facts.host is not None  # noqa: S101
    overview = facts.host.exporter.overview
    if overview is None:
        yield NotKnown("interfaces that files describe", "the host was not looked at")
        return
    if any(not outcome.success for outcome in overview.outcomes if outcome.source not in {"conf", "accounting"}):
        yield NotKnown("interfaces that files describe", "not all devices could be read")
        return
    there = {whose(row)[1] for row in overview.devices} | {*overview.hidden}
    config = facts.config.config
    for row in _rows(facts):
        wanted = config is None or config.interfaces.wanted(row.interface)
        if row.interface and row.peers and wanted and row.interface not in there:
            fix = f"wg-quick up {row.interface}" if row.path.endswith(".conf") else "networkctl reload"
            fix += "; if it must exist, name it under `interfaces: expect`"
            yield ABSENT.at(Where(row.path, interface=row.interface), "there is no such interface", fix)


def _drift(facts: Facts) -> Iterator[Judged]:
    assert facts.host is not None  # noqa: S101
    overview = facts.host.exporter.overview
    for row in overview.devices if overview else ():
        # WireGuard moves endpoints by itself.
        kinds = [f"{kind} ({number})" for kind, number in row.drift.counts if number] if row.drift else []
        if row.drift and any(number for kind, number in row.drift.counts if kind is not DriftKind.ENDPOINT):
            netns, interface = whose(row)
            where = Where(row.drift.path, netns=netns, interface=interface)
            yield DRIFT.at(where, f"the device differs in {', '.join(kinds)}", f"wg-exporter drift {interface}")


def _same(facts: Facts) -> Iterator[Judged]:
    assert facts.host is not None  # noqa: S101
    overview = facts.host.exporter.overview
    if overview is None:
        return
    owners: dict[str, list[str]] = {}
    for device in overview.devices:
        if device.device and device.device.public_key:
            owners.setdefault(device.device.public_key, []).append(" in ".join(filter(None, reversed(whose(device)))))
        counted: dict[str, int] = {}
        for peer in device.peers:
            if peer.named:
                counted[peer.name] = counted.get(peer.name, 0) + 1
        netns, interface = whose(device)
        for name, number in counted.items():
            if number > 1:
                where = Where(netns=netns, interface=interface, peer=name)
                yield SAME_NAME.at(where, f"{number} peers have this name")
    for names in owners.values():
        if len(names) > 1:
            yield SAME_KEY.at(NOWHERE, f"the same key: {first_of(names)}")


def _names(facts: Facts) -> Iterator[Judged]:
    assert facts.host is not None  # noqa: S101
    overview = facts.host.exporter.overview
    for device in overview.devices if overview else ():
        netns, interface = whose(device)
        for peer in device.peers:
            if peer.host_name and peer.host_name.failure:
                where = Where(netns=netns, interface=interface, peer=peer.name)
                host = peer.host_name.name.rpartition(":")[0]
                what = f"its host name {host} does not resolve: {MEANINGS[peer.host_name.failure]}"
                yield UNRESOLVED.at(where, what, f"correct it, in DNS or in the file; see `getent ahosts {host}`")


CHECKS = (
    Check("who can read WireGuard's keys", (READABLE, MODE), _readable),
    Check("who can write to WireGuard's files", (WRITABLE,), _writable),
    Check("who owns WireGuard's files", (OWNER,), _owner),
    Check("lines of WireGuard's files", (SYNTAX,), _syntax),
    Check("what WireGuard's files say twice", (SAME_INTERFACE, SAME_ALLOWED_IPS), _twice),
    Check("interfaces that files describe", (ABSENT,), _absent),
    Check("interfaces that differ from their files", (DRIFT,), _drift),
    Check("names and keys that are there twice", (SAME_NAME, SAME_KEY), _same),
    Check("host names of endpoints", (UNRESOLVED,), _names),
)
