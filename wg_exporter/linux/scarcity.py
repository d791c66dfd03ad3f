"""What is said where a host gives no more memory, threads or processes; and how little is asked of it."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import threading

# Ours go a few dozen calls deep. The usual 8 MiB each are only address space, but that may be limited.
STACK = 1 << 20
_M_ARENA_MAX = -8

_LIBC = ctypes.CDLL(None)

FIX = "raise the limits of the service (MemoryMax, LimitAS, TasksMax, LimitNPROC of the unit)"


def be_frugal() -> None:
    """Threads that are started from now on take little address space, and share their heaps (mallopt(3)): each of its
    own would keep what it has freed, and reserve 64 MiB.
    """
    threading.stack_size(STACK)
    with contextlib.suppress(AttributeError):  # it is glibc's
        _LIBC.mallopt(_M_ARENA_MAX, 1)


def give_back() -> None:
    """Give the kernel back what this process has freed (malloc_trim(3)). Some of it would stay for ever."""
    with contextlib.suppress(AttributeError):  # it is glibc's
        _LIBC.malloc_trim(0)


def scarce(error: BaseException) -> str:
    """In one line what there is too little of; empty if the error is another one."""
    unmapped = isinstance(error, ImportError) and "map segment" in str(error)
    if unmapped or isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM):
        return f"out of memory; {FIX}"
    if isinstance(error, RuntimeError) and "start new thread" in str(error):
        return f"no more threads, or no memory for one; {FIX}"
    if isinstance(error, OSError) and error.errno == errno.EAGAIN:
        return f"no more processes; {FIX}"
    return ""
