"""Facts about the system: the kernel, systemd, users, namespaces and addresses."""

from __future__ import annotations

import ipaddress
import os
import platform
import pwd
import shutil
import socket
import stat
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from wg_exporter.cli.check.facts import KernelFacts, ListenFact, NamespaceFact, Owner, UnitFacts
from wg_exporter.cli.check.service import UNIT
from wg_exporter.linux.errors import SourceError
from wg_exporter.linux.listeners import listeners, owner
from wg_exporter.linux.netlink import NETLINK_GENERIC, Families, Netlink
from wg_exporter.supervisor.roles import PROBER, RESOLVER, WEB
from wg_exporter.web.listen import ListenError, parse_listen

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from wg_exporter.config import Config
    from wg_exporter.web.listen import Listen

SYSTEMCTL_SECONDS = 5.0
_PROPERTIES = ("LoadState", "ActiveState", "UnitFileState", "Result", "ExecMainStatus", "CapabilityBoundingSet",
    "ProtectSystem", "ReadWritePaths", "StateDirectory", "RuntimeDirectory")  # fmt: skip
_FAMILY = "wireguard"


def kernel_facts() -> KernelFacts:
    """What the kernel has, and what its modules say."""
    netlink = Netlink(NETLINK_GENERIC)
    try:
        family = Families(netlink).get(_FAMILY) is not None
    except SourceError:
        return KernelFacts(None, None, platform.release())
    finally:
        netlink.close()
    release = platform.release()
    return KernelFacts(family, True if family else _loadable(Path("/lib/modules", release)), release)


def _loadable(modules: Path) -> bool | None:
    """Whether there is a module, or it is built in; None without lists of modules, as in a container."""
    texts = []
    for name in ("modules.dep", "modules.builtin"):
        try:
            texts.append((modules / name).read_text())
        except (OSError, UnicodeDecodeError):
            continue
    return any(f"/{_FAMILY}.ko" in text for text in texts) if texts else None


def unit_facts() -> UnitFacts | None:
    """The service as systemd knows it; None without systemd, or without the service."""
    program = shutil.which("systemctl")
    if program is None or not Path("/run/systemd/system").is_dir():  # as sd_booted(3) has it
        return None
    command = [program, "show", UNIT, f"--property={','.join(_PROPERTIES)}"]
    try:
        done = subprocess.run(  # noqa: S603 - a constant
            command, capture_output=True, text=True, check=False, timeout=SYSTEMCTL_SECONDS, stdin=subprocess.DEVNULL
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return read_unit(done.stdout) if done.returncode == 0 else None


def read_unit(text: str) -> UnitFacts | None:
    """What `systemctl show` says; None if there is no such unit."""
    found = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
    if found.get("LoadState") != "loaded":
        return None
    code = found.get("ExecMainStatus", "")
    bounds = found.get("CapabilityBoundingSet")
    return UnitFacts(
        found.get("ActiveState", ""),
        found.get("UnitFileState", ""),
        found.get("Result", ""),
        int(code) if code.isdigit() else 0,
        None if bounds is None else frozenset(bounds.lower().split()),
        _writable(found) if found.get("ProtectSystem") == "strict" else None,
    )


def _writable(found: Mapping[str, str]) -> tuple[str, ...]:
    """What ProtectSystem=strict leaves writable that may hold track files (systemd.exec(5))."""
    own = {"StateDirectory": "/var/lib/", "RuntimeDirectory": "/run/"}
    paths = [path.lstrip("-+") for path in found.get("ReadWritePaths", "").split()]
    paths += [f"{above}{name.partition(':')[0]}" for key, above in own.items() for name in found.get(key, "").split()]
    return (*paths, "/dev", "/proc", "/sys")


def missing_users() -> tuple[str, ...]:
    """Those of the users of our processes that don't exist."""

    def missing(name: str) -> bool:
        try:
            pwd.getpwnam(name)
        except KeyError:
            return True
        return False

    return tuple(filter(missing, (WEB, PROBER, RESOLVER)))


def track_files_problem(directory: str) -> str:
    """Why an exporter could not have this directory for track files; empty if nothing speaks against it. Makes none."""
    above = directory.rpartition("/")[0]
    if not os.path.isdir(above):  # noqa: PTH112 - text from a file
        return f"there is no directory {above}; make it, or name another with track_files"
    try:
        mode = os.lstat(directory).st_mode
    except OSError:  # it is made by the exporter; or we may not look
        return ""
    return "" if stat.S_ISDIR(mode) else "it is no directory; remove it, or name another with track_files"


def namespace_facts(config: Config) -> Iterator[NamespaceFact]:
    """Whether the namespaces of the configuration are there."""
    for place in config.namespaces:
        try:
            os.stat(place.path)  # noqa: PTH116 - a path as it was given
        except (FileNotFoundError, NotADirectoryError, ProcessLookupError):
            yield NamespaceFact(place.name, place.path, there=False)
        except OSError:
            yield NamespaceFact(place.name, place.path, None)
        else:
            yield NamespaceFact(place.name, place.path, there=True)


def listen_facts(addresses: Sequence[str], *, guessed: bool = False) -> Iterator[ListenFact]:
    """Where the exporter should listen: whether this host can, and who does already. The ports stay untouched."""
    there = listeners()
    for text in addresses:
        try:
            listen = parse_listen(text)
        except ListenError as error:
            yield ListenFact(text, problem=str(error).partition(": ")[2])
            continue
        hosts = _resolved(listen)
        wide = listen.host is None or any(host.is_unspecified for host in hosts)
        problem = "" if wide or any(map(_is_ours, hosts)) else f"this host has no address {listen.host}"
        taken = next(
            (
                _owner(one.inode)
                for one in there
                if one.port == listen.port and (wide or one.address.is_unspecified or one.address in hosts)
            ),
            None,
        )
        yield ListenFact(text, wide, problem, taken if listen.port else None, guessed)


def _owner(inode: int) -> Owner:
    """Who listens. An exporter that was started as `python -m wg_exporter.cli` goes by the name of its interpreter."""
    pid, command = owner(inode)
    if command.startswith("python"):
        try:
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except OSError:
            words = []
        if b"wg_exporter.cli" in words or any(word.endswith(b"/wg-exporter") for word in words):
            command = "wg-exporter"
    return Owner(pid, command)


def _resolved(listen: Listen) -> list[ipaddress.IPv4Address | ipaddress.IPv6Address]:
    if listen.host is None:
        return []
    try:
        found = socket.getaddrinfo(listen.host, listen.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError):
        return []
    return [ipaddress.ip_address(str(address[0]).partition("%")[0]) for *_, address in found]


def _is_ours(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    """Whether a socket could be bound to it; on a port of the kernel's choice, and not listening."""
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    try:
        with socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as sock:
            sock.bind((str(address), 0))
    except OSError:
        return address.version == 6 and address.is_link_local  # that takes a scope, which is not looked up
    return True
