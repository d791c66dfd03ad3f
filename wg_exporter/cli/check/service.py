"""The exporter that runs, or does not: as a service, on its sockets, and by which configuration."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wg_exporter import __version__
from wg_exporter.cli.check.finding import NOWHERE, Check, Judged, Kind, NotKnown, Severity, Where
from wg_exporter.config import fingerprint

if TYPE_CHECKING:
    from collections.abc import Iterator

    from wg_exporter.cli.check.facts import Facts

UNIT = "wg-exporter.service"
_OURS = ("wg-exporter", "wg-web", "wg-read")

NOT_ASKED = Kind(
    "exporter-not-asked",
    Severity.WARNING,
    "No exporter answers on the Unix socket: none runs, it hangs, or it has another socket. This check, `show` and "
    "`mtu` "
    "look for themselves then, once.",
    "`systemctl start wg-exporter`, or name its socket with `--socket`.",
)
NOT_READY = Kind(
    "exporter-not-ready",
    Severity.ERROR,
    "The exporter runs and can't read the devices: `/-/ready` answers 503.",
    "`journalctl -u wg-exporter` says why.",
)
VERSION = Kind(
    "exporter-version",
    Severity.WARNING,
    "The exporter that runs is of another version than this program: it was upgraded and not restarted, or there are "
    "two "
    "of them.",
    "`systemctl restart wg-exporter`.",
)
OTHER_CONFIG = Kind(
    "exporter-other-config",
    Severity.WARNING,
    "The exporter that runs has another configuration file than was given to this check.",
    "Correct `--config.file` of the service, or give its file to this check.",
)
NOT_RELOADED = Kind(
    "config-not-reloaded",
    Severity.WARNING,
    "The configuration file says something else than the exporter goes by: it was changed, and not read again.",
    "`systemctl reload wg-exporter`.",
)
RELOAD_FAILED = Kind(
    "config-reload-failed",
    Severity.ERROR,
    "The last reload failed: the exporter goes on with an older configuration, and would not start with this one.",
    "Correct the file, and `systemctl reload wg-exporter`; `journalctl -u wg-exporter` says what was wrong.",
)
UNIT_FAILED = Kind(
    "unit-failed",
    Severity.ERROR,
    "The service has failed. After exit code 2, a flag or a configuration that can't be used, systemd does not try "
    "again.",
    "`journalctl -u wg-exporter` says why; then `systemctl start wg-exporter`.",
)
UNIT_DISABLED = Kind(
    "unit-disabled",
    Severity.WARNING,
    "The service runs, and won't after the next boot.",
    "`systemctl enable wg-exporter`.",
)
PORT_TAKEN = Kind(
    "port-taken",
    Severity.ERROR,
    "Another process listens on the address of the exporter, which can't start.",
    "Stop that process, or choose another `--web.listen-address`.",
)
NO_ADDRESS = Kind(
    "address-absent",
    Severity.ERROR,
    "This host has not the address that the exporter should listen on. If it comes with a tunnel, the service has to "
    "start after that.",
    "Correct `--web.listen-address`; `ip address` lists what there is.",
)
NO_USERS = Kind(
    "users-absent",
    Severity.INFO,
    "The users of the exporter's processes don't exist; the numbers 65532 to 65534 stand in for them.",
    "Put `u wg-exporter -`, `u wg-exporter-probe -` and `u wg-exporter-dns -`, a line each, into "
    "`/etc/sysusers.d/wg-exporter.conf`, run `systemd-sysusers`, and restart the service.",
)
NO_DIRECTORY = Kind(
    "socket-directory-absent",
    Severity.INFO,
    "The directory of the Unix socket does not exist. The systemd unit makes it; without it nobody can ask the "
    "exporter.",
    "Start the service, or without systemd: `install -d -m 0700 /run/wg-exporter`.",
)


NOT_KEPT = Kind(
    "storage-unwritable",
    Severity.WARNING,
    "Nothing can be written down below `--storage.path`: what happened (`wg-exporter events`) is lost when the "
    "exporter ends, and what is quiet pages again.",
    "What is wrong is said beside it. The systemd unit makes the directory; elsewhere `install -d -m 0700 "
    "/var/lib/wg-exporter`, and restart the exporter.",
)


def _asked(facts: Facts) -> Iterator[Judged]:
    assert facts.host is not None  # noqa: S101 - for the type checker
    exporter = facts.host.exporter
    if exporter.denied:
        yield NotKnown("the exporter that runs", f"{exporter.unasked}; run this check as root")
    elif not exporter.socket:
        yield NotKnown("the exporter that runs", "no socket was named")
    elif exporter.running and exporter.running.ready:
        what, _, fix = exporter.running.ready.partition("; ")
        yield NOT_READY.at(Where(exporter.socket), what, fix)
    elif exporter.unasked:
        ours = next((one.taken for one in facts.host.listen if one.taken and one.taken.command in _OURS), None)
        what = exporter.unasked
        if ours:
            what += f", but {ours.command} (pid {ours.pid}) has the port"
            yield NOT_ASKED.at(
                Where(exporter.socket), what, "name its socket with --socket, or --web.unix-socket there"
            )
        else:
            yield NOT_ASKED.at(Where(exporter.socket), what)


def _version(facts: Facts) -> Iterator[Judged]:
    assert facts.host is not None  # noqa: S101
    found = facts.host.exporter.version
    if found and found != __version__:
        yield VERSION.at(NOWHERE, f"the exporter that runs is {found}, this program {__version__}")


def _config(facts: Facts) -> Iterator[Judged]:
    assert facts.host is not None  # noqa: S101
    exporter, config = facts.host.exporter, facts.config.config
    where = Where(facts.config.file.path if facts.config.file else "")
    if exporter.other_config is not None:
        yield OTHER_CONFIG.at(where, f"the exporter that runs has {exporter.other_config or 'no configuration file'}")
        return
    teller = exporter.overview.teller if exporter.overview else None
    if teller is None:
        return
    if teller.reload_successful is False:
        yield RELOAD_FAILED.at(where, "the last reload failed, and an older configuration is in use")
    elif exporter.version != __version__ or not teller.fingerprint:
        yield NotKnown("whether the configuration is in use", "the exporter that runs is of another version")
    elif config and fingerprint(config) != teller.fingerprint:
        yield NOT_RELOADED.at(where, "it says something else than the exporter goes by")


def _unit(facts: Facts) -> Iterator[Judged]:
    assert facts.host is not None  # noqa: S101
    unit = facts.host.unit
    if unit is None:
        return
    if unit.active == "failed":
        why = f"exit code {unit.exit_code}" if unit.result == "exit-code" else unit.result
        yield UNIT_FAILED.at(Where(UNIT), f"the service has failed: {why}")
    elif unit.active == "active" and unit.enabled == "disabled":
        yield UNIT_DISABLED.at(Where(UNIT), "it runs, and is not enabled")


def _addresses(facts: Facts) -> Iterator[Judged]:
    assert facts.host is not None  # noqa: S101
    if facts.host.exporter.running:  # it listens there itself
        return
    for listen in facts.host.listen:
        where = Where(address=listen.address)
        if listen.problem:
            what, _, fix = listen.problem.partition("; ")
            yield NO_ADDRESS.at(where, what, fix)
        if listen.taken and listen.taken.command not in _OURS:
            pid, command = listen.taken
            if not pid and facts.host.exporter.denied:  # only root sees the sockets of others: it may be the exporter
                why = "run this check as root to see if it is the exporter"
                yield NotKnown(f"who listens at {listen.address}", why)
                continue
            what = f"{command} (pid {pid}) listens there" if pid else "another process listens there"
            yield PORT_TAKEN.at(where, what + ", where the exporter does by default" * listen.guessed)


def _place(facts: Facts) -> Iterator[Judged]:
    assert facts.host is not None  # noqa: S101
    running = facts.host.exporter.running
    if facts.host.missing_users and (running is None or (running.parted and not running.uid)):
        names = facts.host.missing_users
        lines = "\\n".join(f"u {name} -" for name in names)
        fix = f"printf '{lines}\\n' >/etc/sysusers.d/wg-exporter.conf && systemd-sysusers, and restart the service"
        yield NO_USERS.at(NOWHERE, f"there is no user {' and no user '.join(names)}", fix)
    if not facts.host.socket_directory and running is None:
        directory = facts.host.exporter.socket.rpartition("/")[0]
        fix = f"start the service, or without systemd: install -d -m 0700 {directory}"
        yield NO_DIRECTORY.at(Where(directory), "there is no such directory", fix)


def _kept(facts: Facts) -> Iterator[Judged]:
    assert facts.host is not None  # noqa: S101
    overview = facts.host.exporter.overview
    if overview is None or overview.teller is None:
        yield NotKnown("whether events survive a restart", "no exporter was asked")
    elif overview.teller.storage_problem:
        what, _, fix = overview.teller.storage_problem.partition("; ")
        yield NOT_KEPT.at(NOWHERE, f"events are not kept across restarts: {what}", fix)


CHECKS = (
    Check("the exporter that runs", (NOT_ASKED, NOT_READY), _asked),
    Check("the version that runs", (VERSION,), _version),
    Check("the configuration in use", (OTHER_CONFIG, NOT_RELOADED, RELOAD_FAILED), _config),
    Check("the systemd unit", (UNIT_FAILED, UNIT_DISABLED), _unit),
    Check("addresses and ports", (PORT_TAKEN, NO_ADDRESS), _addresses),
    Check("what survives a restart", (NOT_KEPT,), _kept),
    Check("users and directories", (NO_USERS, NO_DIRECTORY), _place),
)
