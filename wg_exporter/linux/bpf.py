"""bpf(2), as little of it as counting packets takes: maps, a program, and whether other programs run before it.

No library and no compiler: a program comes as its instructions, and each call is one struct that the kernel reads.

Sources: bpf(2), linux/bpf.h (union bpf_attr), kernel/bpf/syscall.c, kernel/bpf/lpm_trie.c, kernel/bpf/arraymap.c.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import struct
from sys import byteorder
from types import MappingProxyType
from typing import TYPE_CHECKING

from wg_exporter.linux.errors import DeniedError, SourceError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

ARRAY, LPM_TRIE, SCHED_CLS = 2, 11, 3
NO_PREALLOC, MMAPABLE = 1, 1 << 10

_CREATE, _UPDATE, _DELETE, _LOAD, _INFO, _QUERY, _UPDATE_MANY = 0, 2, 3, 5, 15, 16, 26
_ENOTSUPP = 524  # the kernel's own number, let out where a kind of map lacks an operation
_MAP, _PROGRAM = struct.Struct("=7I16s"), struct.Struct("=IIQQIIQII16s")
_ENTRY, _ENTRIES = struct.Struct("=IxxxxQQQ"), struct.Struct("=QQQQIIQQ")
_ATTRIBUTES = 128  # bytes: more than any of these takes; what a kernel does not know has to be 0

# The number of the system call (asm/unistd.h of each machine). Machines that are not named have the generic one.
_NUMBERS: Mapping[str, int] = MappingProxyType(
    {"x86_64": 321, "i386": 357, "i686": 357, "armv6l": 386, "armv7l": 386, "ppc64le": 361, "s390x": 351}
)
_GENERIC = 280

DENIED = (
    "counting packets needs CAP_BPF beside CAP_NET_ADMIN, before Linux 5.8 CAP_SYS_ADMIN, before 5.11 memory that may "
    "be locked (ulimit -l), and no user namespace; see docs/accounting.md, or turn `accounting` off"
)
LACKING = "this kernel can't count packets: that takes Linux 5.7 with BPF (CONFIG_BPF_SYSCALL); turn `accounting` off"


class BpfError(SourceError):
    """The kernel refused; `errno` says why."""

    def __init__(self, number: int, doing: str) -> None:
        super().__init__(f"{doing}: {'not supported' if number == _ENOTSUPP else os.strerror(number)}")
        self.errno = number


class Bpf:
    """The calls. What they return are open files, which are the caller's to close. All of them raise BpfError."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._number = ctypes.c_long(_NUMBERS.get(os.uname().machine, _GENERIC))

    def call(self, command: int, attributes: bytes, doing: str) -> tuple[int, bytes]:
        """One call: its result, and what the kernel left of the attributes. `doing` is for the message."""
        buffer = ctypes.create_string_buffer(attributes, _ATTRIBUTES)
        result = self._libc.syscall(self._number, ctypes.c_long(command), buffer, ctypes.c_long(_ATTRIBUTES))
        if result < 0:
            raise BpfError(ctypes.get_errno(), doing)
        return int(result), buffer.raw

    def create_map(self, kind: int, sizes: tuple[int, int], entries: int, flags: int, name: str) -> int:
        """A map; `sizes` are those of a key and a value in bytes."""
        with _Explained():
            return self.call(_CREATE, _MAP.pack(kind, *sizes, entries, flags, 0, 0, name.encode()), "making a map")[0]

    def load(self, instructions: bytes, name: str) -> int:
        """A program for tc."""
        code, licence = _buffer(instructions), _buffer(b"MIT\0")
        addresses = (ctypes.addressof(code), ctypes.addressof(licence))
        attributes = _PROGRAM.pack(
            SCHED_CLS, len(instructions) // 8, *addresses, 0, 0, 0, 0, 0, name.encode()
        )  # no log of the verifier
        with _Explained():
            return self.call(_LOAD, attributes, "loading the program")[0]

    def program_id(self, program: int) -> int:
        """The number by which the kernel names a program, as `tc filter show` has it."""
        info = ctypes.create_string_buffer(64)
        attributes = struct.pack("=IIQ", program, len(info), ctypes.addressof(info))
        self.call(_INFO, attributes, "looking at the program")
        return int.from_bytes(info.raw[4:8], byteorder)

    def update(self, file: int, entries: Sequence[tuple[bytes, bytes]]) -> None:
        """Put keys with their values into a map: with one call where the kernel can (for a trie since 5.13)."""
        if len(entries) > 1 and self._update_many(file, entries):
            return
        for key, value in entries:
            first, second = _buffer(key), _buffer(value)
            self.call(_UPDATE, _ENTRY.pack(file, ctypes.addressof(first), ctypes.addressof(second), 0), "writing a map")

    def delete(self, file: int, keys: Iterable[bytes]) -> None:
        """Take keys out of a map; one that is not in there is out."""
        for key in keys:
            buffer = _buffer(key)
            try:
                self.call(_DELETE, _ENTRY.pack(file, ctypes.addressof(buffer), 0, 0), "writing a map")
            except BpfError as error:
                if error.errno != errno.ENOENT:
                    raise

    def others(self, ifindex: int, hook: int) -> int:
        """How many programs of the newer kind (tcx, Linux 6.6) are at a hook (BPF_TCX_INGRESS, BPF_TCX_EGRESS) of an
        interface. tc's filters come after them.
        """
        try:
            _result, answer = self.call(_QUERY, struct.pack("=IIIIQII", ifindex, hook, 0, 0, 0, 0, 0), "looking")
        except BpfError:
            return 0  # an older kernel, which has none
        return int.from_bytes(answer[24:28], byteorder)

    def _update_many(self, file: int, entries: Sequence[tuple[bytes, bytes]]) -> bool:
        keys, values = (_buffer(b"".join(column)) for column in zip(*entries, strict=True))
        where = (ctypes.addressof(keys), ctypes.addressof(values))
        try:
            self.call(_UPDATE_MANY, _ENTRIES.pack(0, 0, *where, len(entries), file, 0, 0), "writing a map")
        except BpfError as error:
            if error.errno not in {_ENOTSUPP, errno.EOPNOTSUPP, errno.EINVAL}:
                raise
            return False
        return True


def memory(file: int, size: int) -> mmap.mmap:
    """The values of an array that is MMAPABLE, to be read without a call; `file` may be closed then. Raises OSError."""
    return mmap.mmap(file, -(-size // mmap.PAGESIZE) * mmap.PAGESIZE, mmap.MAP_SHARED, mmap.PROT_READ)


class _Explained:
    """Says of errors that a host has for good what to do about them."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, _kind: object, error: BaseException | None, _traceback: object) -> None:
        if isinstance(error, BpfError) and error.errno in {errno.EPERM, errno.EACCES}:
            raise DeniedError(DENIED) from None
        if isinstance(error, BpfError) and error.errno in {errno.ENOSYS, errno.EINVAL}:
            raise SourceError(LACKING) from None


def _buffer(data: bytes) -> ctypes.Array[ctypes.c_char]:
    return ctypes.create_string_buffer(data, len(data))
