"""Gives up all privileges that probing doesn't need, for good.

What stays is CAP_NET_RAW for raw sockets and, from Linux 5.17 on, for marks; before 5.17 a mark needs CAP_NET_ADMIN.
If other network namespaces are configured, CAP_SYS_ADMIN stays to enter them (setns(2)), and CAP_SYS_PTRACE for those
named by a pid. The process becomes the user nobody if it may, and can never get new privileges (PR_SET_NO_NEW_PRIVS).

Sources: capabilities(7), capset(2), prctl(2), linux/capability.h.
"""

from __future__ import annotations

import ctypes
import os
import re
import stat
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

CAP_SETGID, CAP_SETUID, CAP_SETPCAP, CAP_NET_ADMIN, CAP_NET_RAW, CAP_SYS_PTRACE, CAP_SYS_ADMIN = 6, 7, 8, 12, 13, 19, 21
NOBODY = 65534

_VERSION_3 = 0x20080522
_PR_SET_KEEPCAPS, _PR_CAPBSET_READ, _PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS = 8, 23, 24, 38
_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL = 47, 4
_MARK_BY_NET_RAW = (5, 17)


def needed(namespaces: Iterable[str], release: str) -> set[int]:
    """The capabilities to keep on a kernel of this release (uname -r)."""
    kept = {CAP_NET_RAW}
    if any(True for _ in namespaces):
        kept |= {CAP_SYS_ADMIN, CAP_SYS_PTRACE}
    version = re.match(r"(\d+)\.(\d+)", release)
    if version is None or (int(version[1]), int(version[2])) < _MARK_BY_NET_RAW:
        kept.add(CAP_NET_ADMIN)
    return kept


def drop(paths: Iterable[str]) -> None:
    """Keep only what is needed to probe in our own namespace and those at `paths`. Raises OSError if that fails."""
    paths = list(paths)
    libc = _Libc()
    held = libc.permitted()
    kept = held & needed(paths, os.uname().release)
    if CAP_SETPCAP in held:
        for capability in range(64):
            if capability not in kept and libc.prctl(_PR_CAPBSET_READ, capability) == 1:
                libc.prctl(_PR_CAPBSET_DROP, capability)
    if {CAP_SETUID, CAP_SETGID} <= held and os.geteuid() == 0 and all(map(_open_to_all, paths)):
        libc.prctl(_PR_SET_KEEPCAPS, 1)
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
    libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL)
    libc.keep(kept)
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1)


def _open_to_all(path: str) -> bool:
    """Whether any user may reach this path. Some directories with namespaces are root's alone."""
    try:
        return all(parent.stat().st_mode & stat.S_IXOTH for parent in Path(path).absolute().parents)
    except OSError:
        return True  # it isn't there yet, so nobody knows


class _Libc:
    """The system calls that Python has no functions for. Both raise OSError."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)

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

    def keep(self, kept: set[int]) -> None:
        """Make `kept` the effective and permitted set, and the inheritable set empty."""
        data = (ctypes.c_uint32 * 6)()
        for number in kept:
            for place in (0, 1):
                data[place + 3 * (number // 32)] |= 1 << number % 32
        if self._libc.capset(self._header(), data):
            raise OSError(ctypes.get_errno(), "capset")

    @staticmethod
    def _header() -> ctypes.Array[ctypes.c_uint32]:
        return (ctypes.c_uint32 * 2)(_VERSION_3, 0)
