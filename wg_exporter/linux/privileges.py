"""Gives up all privileges that a process doesn't need, for good.

Probing takes CAP_NET_RAW for raw sockets and, from Linux 5.17 on, for marks; before 5.17 a mark needs CAP_NET_ADMIN.
If other network namespaces are configured, it takes CAP_SYS_ADMIN to enter them (setns(2)), and CAP_SYS_PTRACE for
those named by a pid. Counting packets takes CAP_BPF, before 5.8 CAP_SYS_ADMIN. A process becomes another user if it
may, and can never get new privileges (PR_SET_NO_NEW_PRIVS).

Sources: capabilities(7), capset(2), prctl(2), linux/capability.h.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import re
import resource
import signal
import stat
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

CAP_DAC_READ_SEARCH, CAP_KILL, CAP_SETGID, CAP_SETUID, CAP_SETPCAP = 2, 5, 6, 7, 8
CAP_NET_ADMIN, CAP_NET_RAW, CAP_SYS_PTRACE, CAP_SYS_ADMIN, CAP_BPF = 12, 13, 19, 21, 39

_VERSION_3 = 0x20080522
_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE, _PR_SET_KEEPCAPS, _PR_CAPBSET_READ, _PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS = 4, 8, 23, 24, 38
_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL = 47, 4
_PR_SET_NAME = 15
_MARK_BY_NET_RAW, _CAP_BPF_SINCE, _COUNTS_SINCE = (5, 17), (5, 8), (5, 7)


class User(NamedTuple):
    """Whom a process becomes."""

    uid: int
    gid: int


NOBODY = User(65534, 65534)


def effective() -> frozenset[int] | None:
    """The capabilities that this process may use now (proc(5), CapEff); None without /proc."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        mask = next(int(line.split()[1], 16) for line in lines if line.startswith("CapEff:"))
    except (OSError, StopIteration):
        return None
    return frozenset(number for number in range(64) if mask >> number & 1)


def can_be_several_users() -> bool:
    """Whether this process may start others as other users: it is root, may change that, and there are others. In some
    containers root is the only user that exists (user_namespaces(7)).
    """
    held = effective()
    if os.geteuid() != 0 or held is None or not held >= {CAP_SETUID, CAP_SETGID}:
        return False
    try:
        groups = Path("/proc/self/setgroups").read_text().strip() != "deny"
        return groups and all(_covers(Path(f"/proc/self/{name}")) for name in ("uid_map", "gid_map"))
    except OSError:
        return True  # a kernel without user namespaces


def _covers(file: Path) -> bool:
    """Whether the numbers of ordinary users exist here."""
    spans = [tuple(map(int, line.split())) for line in file.read_text().splitlines()]
    return any(first <= 1 and first + count > NOBODY.uid for first, _outside, count in spans)


def to_probe(namespaces: Iterable[str], release: str) -> set[int]:
    """The capabilities that probing takes on a kernel of this release (uname -r)."""
    kept = {CAP_NET_RAW} | to_enter(namespaces)
    if not _since(release, _MARK_BY_NET_RAW):
        kept.add(CAP_NET_ADMIN)
    return kept


def to_count(release: str) -> set[int]:
    """The capabilities that counting packets takes beside CAP_NET_ADMIN on a kernel of this release (uname -r)."""
    return {CAP_BPF if _since(release, _CAP_BPF_SINCE) else CAP_SYS_ADMIN}


def can_count(release: str) -> bool:
    """Whether a kernel of this release (uname -r) is new enough for it."""
    return _since(release, _COUNTS_SINCE)


def _since(release: str, first: tuple[int, int]) -> bool:
    version = re.match(r"(\d+)\.(\d+)", release)
    return version is not None and (int(version[1]), int(version[2])) >= first


def to_enter(namespaces: Iterable[str]) -> set[int]:
    """The capabilities that entering network namespaces takes, by name or by pid."""
    return {CAP_SYS_ADMIN, CAP_SYS_PTRACE} if any(True for _ in namespaces) else set()


def keep_only(kept: Iterable[int], user: User | None = None) -> None:
    """Give up all capabilities but these, for good, and become this user if that is permitted. Nobody but root may look
    into the process from now on, and no core is written. Raises OSError if it fails.
    """
    libc = _Libc()
    held = libc.permitted()
    left = held & set(kept)
    if CAP_SETPCAP in held:
        for capability in range(64):
            if capability not in left and libc.prctl(_PR_CAPBSET_READ, capability) == 1:
                libc.prctl(_PR_CAPBSET_DROP, capability)
    if user is not None and {CAP_SETUID, CAP_SETGID} <= held and os.geteuid() == 0:
        libc.prctl(_PR_SET_KEEPCAPS, 1)
        os.setgroups([])
        os.setresgid(user.gid, user.gid, user.gid)
        os.setresuid(user.uid, user.uid, user.uid)
    libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL)
    libc.keep(left)
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1)
    libc.prctl(_PR_SET_DUMPABLE, 0)
    with contextlib.suppress(OSError, ValueError):  # a filter of system calls may forbid it
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def reduce_effective(used: Iterable[int]) -> None:
    """Use only these capabilities of those that are held. The others can still be handed on to children."""
    libc = _Libc()
    held = libc.permitted()
    libc.keep(held, held & set(used))


def name_process(name: str) -> None:
    """The name that ps(1) and top(1) show for this process; 15 bytes of it."""
    _Libc().name(name)


def die_with_parent(parent: int) -> None:
    """Be killed when the parent, a process id, ends (prctl(2), PR_SET_PDEATHSIG). Raises OSError, also if it has ended
    already: no signal would come any more.
    """
    _Libc().prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        raise ProcessLookupError(errno.ESRCH, "the parent has ended")


def open_to_all(path: str) -> bool:
    """Whether any user may reach this path. Some directories with namespaces are root's alone."""
    try:
        return all(parent.stat().st_mode & stat.S_IXOTH for parent in Path(path).absolute().parents)
    except OSError:
        return True  # it isn't there yet, so nobody knows


def readable_by_all(path: Path) -> bool:
    """Whether any user may read this file."""
    try:
        return open_to_all(str(path)) and bool(path.stat().st_mode & stat.S_IROTH)
    except OSError:
        return False


class _Libc:
    """The system calls that Python has no functions for. Both raise OSError."""

    _libc = ctypes.CDLL(None, use_errno=True)

    def prctl(self, option: int, argument: int) -> int:
        result: int = self._libc.prctl(option, *(ctypes.c_ulong(value) for value in (argument, 0, 0, 0)))
        if result < 0 and option != _PR_CAPBSET_READ:  # it fails for capabilities that this kernel lacks
            raise OSError(ctypes.get_errno(), f"prctl {option}")
        return result

    def permitted(self) -> set[int]:
        header, data = self._header(), (ctypes.c_uint32 * 6)()
        if self._libc.capget(header, data):
            raise OSError(ctypes.get_errno(), "capget")
        return {number for number in range(64) if data[1 + 3 * (number // 32)] >> number % 32 & 1}

    def name(self, name: str) -> None:
        self._libc.prctl(_PR_SET_NAME, ctypes.c_char_p(name.encode()), *(ctypes.c_ulong(0),) * 3)

    def keep(self, permitted: set[int], effective: set[int] | None = None) -> None:
        """Make these the permitted and the effective set (the same, unless given), and the inheritable one empty."""
        data = (ctypes.c_uint32 * 6)()
        for place, numbers in enumerate((permitted if effective is None else effective, permitted)):
            for number in numbers:
                data[place + 3 * (number // 32)] |= 1 << number % 32
        if self._libc.capset(self._header(), data):
            raise OSError(ctypes.get_errno(), "capset")

    @staticmethod
    def _header() -> ctypes.Array[ctypes.c_uint32]:
        return (ctypes.c_uint32 * 2)(_VERSION_3, 0)
