"""Whether anything keeps the kernel's clock right (adjtimex(2))."""

from __future__ import annotations

import ctypes

_STA_UNSYNC = 0x40


class _Timex(ctypes.Structure):
    """The beginning of struct timex (linux/timex.h), and room for the rest."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("rest", ctypes.c_byte * 256),
    )


def synchronised() -> bool | None:
    """Whether the kernel was told that its clock is right; None if it can't be asked. Takes no right."""
    timex = _Timex()  # modes 0: read, and set nothing
    try:
        if ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.byref(timex)) < 0:
            return None
    except AttributeError:
        return None
    return not timex.status & _STA_UNSYNC
