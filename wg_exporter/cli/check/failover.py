"""Failover: whether fast echoes are sent to those who should have them, and whether track files reach keepalived."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

from wg_exporter import __version__
from wg_exporter.cli.check.finding import NOWHERE, Check, Judged, Kind, NotKnown, Severity, Where
from wg_exporter.cli.show.overview import not_asked
from wg_exporter.plan.fast import NO_ANSWER_YET, NO_ENDPOINT, NO_INTERFACE, NOT_READ
from wg_exporter.status.words import count, first_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from wg_exporter.cli.check.facts import Facts

REASONS = 5
UNIT = "wg-exporter.service"
_RUN = ("/run/wg-exporter/", "/var/run/wg-exporter/")
# Nothing is wrong with the entry: what could not be read is told of as such.
_LATER = {NOT_READ, NO_INTERFACE}

NOT_SENT = Kind(
    "fast-not-sent",
    Severity.WARNING,
    "A peer should have fast echoes (`fast`) and gets none: whoever asks is told that it is down, or that nothing is "
    "known, and no traffic is moved by it.",
    "Give it a `target` under `peers`, or what the reason says.",
)
UNUSED = Kind(
    "track-files-unused",
    Severity.WARNING,
    "The configuration has `track_files`, and no peer has `fast`: no file is ever written there, and keepalived takes "
    "that for a tunnel that is up.",
    "Give `fast: {}` to the entries of the peers whose tunnels keepalived should follow.",
)
IN_RUN = Kind(
    "track-files-removed",
    Severity.WARNING,
    "The directory of track files is below `/run/wg-exporter`, which systemd removes whenever the service ends: "
    "keepalived goes on watching the directory that it found at its start, and learns nothing more.",
    "Name one below `/var/lib/wg-exporter`, here and in keepalived.conf.",
)
UNWRITABLE = Kind(
    "track-files-unwritable",
    Severity.ERROR,
    "Track files can't be written: their directory is missing, belongs to others, or the disk is full. keepalived "
    "takes what it read last for true.",
    "What is wrong is said beside it; docs/failover.md has more.",
)
UNIT_LACKS = Kind(
    "unit-no-track-files",
    Severity.ERROR,
    "The configuration has `track_files`, and the systemd unit may not write there (`ProtectSystem=strict`).",
    "Name a directory below `/var/lib/wg-exporter`, or add a drop-in with `ReadWritePaths=` for the directory above "
    "it, and restart the service.",
)
MOVED = Kind(
    "track-files-elsewhere",
    Severity.WARNING,
    "The exporter that runs has another directory for track files than the configuration names: a change of it takes a "
    "restart, as a reload can't open it.",
    "`systemctl restart wg-exporter`.",
)


def _sent(facts: Facts) -> Iterator[Judged]:
    assert facts.host is not None  # noqa: S101 - for the type checker
    config, overview = facts.config.config, facts.host.exporter.overview
    if config is None or not any(peer.fast for peer in config.peers):
        return
    if overview is None or overview.teller is None:
        yield NotKnown("fast echoes", "no exporter was asked")
    if overview is None:
        return
    found = not_asked(overview)
    unread = [name for reason in _LATER & found.keys() for name in found.pop(reason)]
    unread += [
        row.name for device in overview.devices for row in device.peers if row.fast and row.fast.why == NO_ANSWER_YET
    ]
    if unread:
        yield NotKnown("fast echoes", f"nothing is known yet of {first_of(unread)}; check again in a moment")
    for reason, names in islice(found.items(), REASONS):
        what, _, fix = reason.partition("; ")
        if reason == NO_ENDPOINT:
            fix = "set its `Endpoint` here, or have it call: echoes are sent as soon as it did"
        peer = names[0] if len(names) == 1 else ""
        whom = "it gets" if peer else f"{count(len(names), 'peer')} ({first_of(names)}) get"
        yield NOT_SENT.at(Where(peer=peer), f"{whom} no fast echoes: {what}", fix)
    if len(found) > REASONS:
        yield NOT_SENT.at(NOWHERE, f"more peers get no fast echoes, for {len(found) - REASONS} other reasons")


def _named(facts: Facts) -> Iterator[Judged]:
    config = facts.config.config
    if config is None or not config.track_files:
        return
    where = Where(facts.config.file.path if facts.config.file else "")
    if not any(peer.fast for peer in config.peers):
        yield UNUSED.at(where, f"track_files is {config.track_files}, and no peer has `fast`")
    if config.track_files.startswith(_RUN):
        yield IN_RUN.at(where, f"track_files is {config.track_files}, which goes when the service ends")


def _written(facts: Facts) -> Iterator[Judged]:
    assert facts.host is not None  # noqa: S101
    config, exporter = facts.config.config, facts.host.exporter
    if config is None:
        return
    wanted, teller = config.track_files or "", exporter.overview.teller if exporter.overview else None
    if wanted and _closed(wanted, facts):
        yield UNIT_LACKS.at(Where(UNIT), f"it may not write to {wanted}")
    elif teller is None:
        if wanted and facts.host.track_files_problem:
            yield _unwritable(wanted, facts.host.track_files_problem)
        elif wanted:
            yield NotKnown("track files", "no exporter was asked")
    elif exporter.version != __version__:
        if wanted:
            yield NotKnown("track files", "the exporter that runs is of another version")
    elif wanted != teller.track_files:
        there = f"in {teller.track_files}" if teller.track_files else "nowhere"
        yield MOVED.at(
            Where(wanted or teller.track_files), f"the exporter that runs writes its track files {there} still"
        )
    elif teller.track_files_problem:
        yield _unwritable(wanted, teller.track_files_problem)


def _unwritable(directory: str, problem: str) -> Judged:
    what, _, fix = problem.removeprefix(f"{directory}: ").partition("; ")
    return UNWRITABLE.at(Where(directory), what, fix)


def _closed(directory: str, facts: Facts) -> bool:
    """Whether the unit can't write to this directory, so far as its settings say."""
    unit = facts.host.unit if facts.host else None
    if unit is None or unit.writable is None:
        return False
    return not any(f"{directory}/".startswith(f"{path.rstrip('/')}/") for path in unit.writable)


CHECKS = (
    Check("fast echoes", (NOT_SENT,), _sent),
    Check("the directory of track files", (UNUSED, IN_RUN), _named, host=False),
    Check("track files", (UNWRITABLE, UNIT_LACKS, MOVED), _written),
)
