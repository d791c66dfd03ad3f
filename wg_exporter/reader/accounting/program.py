"""The program that counts the packets of each peer, as instructions of BPF.

It runs in the kernel for every packet that a WireGuard device hands up (ingress) or is handed (egress), looks the
peer's address up in a trie of allowed IPs, which is how WireGuard itself chooses a peer, and adds to the counter of the
peer. What tc shows it may be many packets in one, by GSO or GRO: so it adds how many the kernel says these are
(`gso_segs`) or, where a program or a virtual machine made it and the kernel has not counted yet, what follows from its
length. It changes nothing and lets every packet pass.

There is no compiler on a gateway, so the instructions are put together here, beside the C that they stand for.

Sources: Documentation/bpf/standardization/instruction-set.rst, linux/bpf.h (struct __sk_buff, bpf-helpers(7)),
net/core/dev.c (qdisc_pkt_len_init, which reckons the same way), linux/virtio_net.h (why gso_segs may be 0).
"""

from __future__ import annotations

import socket
import struct
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

RECEIVED, SENT = 0, 1

# A key of the trie: how many bits of the rest count, the family (4 or 6) as 32 bits, and the address in 16 bytes. The
# first 8 bytes that are compared hold all of an IPv4 address. Without the family ::/0 would take IPv4 packets too.
KEY = struct.Struct("=II16s")
FAMILY_BITS = 32

# Offsets in struct __sk_buff.
LENGTH, PROTOCOL, GSO_SEGS, GSO_SIZE = 0, 16, 164, 176

_LOOKUP, _CPU, _LOAD_BYTES = 1, 8, 68  # numbers of helpers (bpf_map_lookup_elem, ...)
_FROM_NETWORK_HEADER = 1  # BPF_HDR_START_NET
_TCP, _UDP = 6, 17

R0, R1, R2, R3, R4, R5, R6, R7, R8, R9, FP = range(11)

# Where things are below the frame pointer.
_KEY_AT, _FAMILY_AT, _ADDRESS_AT, _INDEX_AT, _HEADER_AT = -24, -20, -16, -28, -40

_INSTRUCTION = struct.Struct("=BBhi")

# Operations, by how `tools/bpf` and the kernel's documentation name them.
_ADD, _SUB, _DIV, _AND, _LSH, _RSH, _MOV = 0x00, 0x10, 0x30, 0x50, 0x60, 0x70, 0xB0
_ALWAYS, _EQUAL, _ABOVE, _UNEQUAL, _AT_MOST = 0x00, 0x10, 0x20, 0x50, 0xB0
_BYTE, _WORD, _DOUBLE = 0x10, 0x00, 0x18
_IMMEDIATE, _REGISTER = 0x00, 0x08
_CLASS_LD, _CLASS_LDX, _CLASS_ST, _CLASS_STX, _CLASS_JMP, _CLASS_ALU64 = 0x00, 0x01, 0x02, 0x03, 0x05, 0x07
_MEM, _ATOMIC = 0x60, 0xC0


class _Code:
    """Instructions with names for the places that are jumped to. Jumps lead forwards only."""

    def __init__(self) -> None:
        self._rows: list[tuple[int, int, int, int, int, str]] = []
        self._places: dict[str, int] = {}

    def _put(
        self, code: int, to: int = 0, source: int = 0, offset: int = 0, *, value: int = 0, place: str = ""
    ) -> None:
        self._rows.append((code, to, source, offset, value, place))

    def alu(self, operation: int, to: int, value: int) -> None:
        self._put(_CLASS_ALU64 | operation | _IMMEDIATE, to, value=value)

    def alu_register(self, operation: int, to: int, source: int) -> None:
        self._put(_CLASS_ALU64 | operation | _REGISTER, to, source)

    def read(self, size: int, to: int, source: int, offset: int) -> None:
        self._put(_CLASS_LDX | _MEM | size, to, source, offset)

    def write(self, size: int, offset: int, value: int) -> None:
        self._put(_CLASS_ST | _MEM | size, FP, 0, offset, value=value)

    def write_register(self, size: int, offset: int, source: int) -> None:
        self._put(_CLASS_STX | _MEM | size, FP, source, offset)

    def add_atomically(self, to: int, source: int) -> None:
        self._put(_CLASS_STX | _ATOMIC | _DOUBLE, to, source)

    def map(self, to: int, file: int) -> None:
        self._put(_CLASS_LD | _DOUBLE, to, 1, value=file)  # BPF_PSEUDO_MAP_FD; takes two instructions
        self._put(0)

    def call(self, helper: int) -> None:
        self._put(_CLASS_JMP | 0x80, value=helper)

    def jump(self, condition: int, register: int, value: int, place: str) -> None:
        self._put(_CLASS_JMP | condition | _IMMEDIATE, register, value=value, place=place)

    def jump_register(self, condition: int, register: int, other: int, place: str) -> None:
        self._put(_CLASS_JMP | condition | _REGISTER, register, other, place=place)

    def end(self) -> None:
        self._put(_CLASS_JMP | 0x90)

    def here(self, place: str) -> None:
        self._places[place] = len(self._rows)

    def bytes(self) -> bytes:
        found = []
        for at, (code, to, source, offset, value, place) in enumerate(self._rows):
            distance = self._places[place] - at - 1 if place else offset
            # Registers are in the half of the byte that bit fields of the machine begin with.
            found.append(_INSTRUCTION.pack(code, _registers(to, source), distance, value))
        return b"".join(found)


def _registers(to: int, source: int) -> int:
    little = struct.pack("=H", 1)[0] == 1
    return to | source << 4 if little else to << 4 | source


_ADDRESSES: Mapping[tuple[int, int], int] = MappingProxyType(
    {(4, RECEIVED): 12, (4, SENT): 16, (6, RECEIVED): 8, (6, SENT): 24}
)
"""Where in the packet the address is that tells the peer: of what was received the source, else the destination."""


def program(direction: int, trie: int, counters: int, room: int, cells: int) -> bytes:
    """The program for one direction, RECEIVED or SENT. `trie` and `counters` are files of its maps.

    The trie gives the number of a peer. The counters are 64 bits each: for each of `cells` groups of processors (a
    power of two, as `room`) `room` counters of received packets, then `room` of sent ones, by number.
    """
    code = _Code()
    _find_peer(code, direction, trie)
    _choose_counter(code, direction, room, cells)
    _count_packets(code)
    _add(code, counters)
    return code.bytes()


def _find_peer(code: _Code, direction: int, trie: int) -> None:
    code.alu_register(_MOV, R6, R1)  # r6 = skb
    code.read(_WORD, R7, R6, PROTOCOL)  # r7 = skb->protocol
    code.write(_DOUBLE, _ADDRESS_AT, 0)  # key.address = {}
    code.write(_DOUBLE, _ADDRESS_AT + 8, 0)
    code.jump(_EQUAL, R7, socket.htons(0x0800), "ipv4")  # if (r7 == htons(ETH_P_IP)) goto ipv4
    code.jump(_UNEQUAL, R7, socket.htons(0x86DD), "pass")  # if (r7 != htons(ETH_P_IPV6)) goto pass
    code.write(_WORD, _KEY_AT, FAMILY_BITS + 128)  # key.prefixlen = 32 + 128
    code.write(_WORD, _FAMILY_AT, 6)  # key.family = 6
    code.alu(_MOV, R2, _ADDRESSES[6, direction])  # r2 = offset of saddr or daddr
    code.alu(_MOV, R4, 16)  # r4 = sizeof(struct in6_addr)
    code.jump(_ALWAYS, R0, 0, "load")  # goto load
    code.here("ipv4")
    code.write(_WORD, _KEY_AT, FAMILY_BITS + 32)
    code.write(_WORD, _FAMILY_AT, 4)
    code.alu(_MOV, R2, _ADDRESSES[4, direction])
    code.alu(_MOV, R4, 4)
    code.here("load")  # bpf_skb_load_bytes_relative(skb, r2, &key.address, r4, BPF_HDR_START_NET)
    _load(code, _ADDRESS_AT)
    code.map(R1, trie)  # r0 = bpf_map_lookup_elem(trie, &key)
    code.alu_register(_MOV, R2, FP)
    code.alu(_ADD, R2, _KEY_AT)
    code.call(_LOOKUP)
    code.jump(_EQUAL, R0, 0, "pass")  # no peer has the address: WireGuard drops it too
    code.read(_WORD, R8, R0, 0)  # r8 = number of the peer


def _choose_counter(code: _Code, direction: int, room: int, cells: int) -> None:
    # While a program with more room takes the place of this one, the trie may have peers already that are not ours.
    code.jump(_ABOVE, R8, room - 1, "pass")  # if (r8 >= room) goto pass
    code.call(_CPU)  # r0 = bpf_get_smp_processor_id() & (cells - 1)
    code.alu(_AND, R0, cells - 1)
    code.alu(_LSH, R0, (2 * room).bit_length() - 1)  # index = r0 * 2 * room + direction * room + r8
    code.alu_register(_ADD, R8, R0)
    code.alu(_ADD, R8, direction * room)
    code.write_register(_WORD, _INDEX_AT, R8)


def _count_packets(code: _Code) -> None:
    """r9 = how many packets this is on the way through the tunnel."""
    code.alu(_MOV, R9, 1)
    code.read(_WORD, R7, R6, GSO_SIZE)  # r7 = skb->gso_size
    code.jump(_EQUAL, R7, 0, "add")  # one packet
    code.read(_WORD, R1, R6, GSO_SEGS)  # r1 = skb->gso_segs
    code.jump(_EQUAL, R1, 0, "reckon")
    code.alu_register(_MOV, R9, R1)
    code.jump(_ALWAYS, R0, 0, "add")
    code.here("reckon")  # the first 10 bytes of the IP header, up to the protocol
    code.alu(_MOV, R2, 0)
    code.alu(_MOV, R4, 10)
    _load(code, _HEADER_AT, otherwise="add")
    code.read(_BYTE, R8, FP, _HEADER_AT)  # r8 = length of the IP header
    code.alu_register(_MOV, R1, R8)
    code.alu(_RSH, R1, 4)
    code.jump(_EQUAL, R1, 4, "header of ipv4")
    code.alu(_MOV, R8, 40)
    code.read(_BYTE, R1, FP, _HEADER_AT + 6)  # r1 = nexthdr
    code.jump(_ALWAYS, R0, 0, "transport")
    code.here("header of ipv4")
    code.alu(_AND, R8, 0xF)  # ihl * 4
    code.alu(_LSH, R8, 2)
    code.read(_BYTE, R1, FP, _HEADER_AT + 9)  # r1 = protocol
    code.here("transport")
    code.jump(_EQUAL, R1, _TCP, "tcp")
    code.jump(_UNEQUAL, R1, _UDP, "divide")
    code.alu(_ADD, R8, 8)  # r8 += sizeof(struct udphdr)
    code.jump(_ALWAYS, R0, 0, "divide")
    code.here("tcp")  # r8 += doff * 4
    code.alu_register(_MOV, R2, R8)
    code.alu(_ADD, R2, 12)
    code.alu(_MOV, R4, 1)
    _load(code, _HEADER_AT, otherwise="add")
    code.read(_BYTE, R1, FP, _HEADER_AT)
    code.alu(_RSH, R1, 4)
    code.alu(_LSH, R1, 2)
    code.alu_register(_ADD, R8, R1)
    code.here("divide")  # r9 = DIV_ROUND_UP(skb->len - r8, gso_size)
    code.read(_WORD, R1, R6, LENGTH)
    code.jump_register(_AT_MOST, R1, R8, "add")
    code.alu_register(_SUB, R1, R8)
    code.alu_register(_ADD, R1, R7)
    code.alu(_SUB, R1, 1)
    code.alu_register(_DIV, R1, R7)
    code.alu_register(_MOV, R9, R1)


def _add(code: _Code, counters: int) -> None:
    code.here("add")
    code.map(R1, counters)  # r0 = bpf_map_lookup_elem(counters, &index)
    code.alu_register(_MOV, R2, FP)
    code.alu(_ADD, R2, _INDEX_AT)
    code.call(_LOOKUP)
    code.jump(_EQUAL, R0, 0, "pass")
    code.add_atomically(R0, R9)  # __sync_fetch_and_add(r0, r9)
    code.here("pass")
    code.alu(_MOV, R0, -1)  # return TC_ACT_UNSPEC: the filters of others come next
    code.end()


def _load(code: _Code, where: int, otherwise: str = "pass") -> None:
    """Copy r4 bytes from r2 bytes behind the network header to `where`. The header may be anywhere in the skb."""
    code.alu_register(_MOV, R1, R6)
    code.alu_register(_MOV, R3, FP)
    code.alu(_ADD, R3, where)
    code.alu(_MOV, R5, _FROM_NETWORK_HEADER)
    code.call(_LOAD_BYTES)
    code.jump(_UNEQUAL, R0, 0, otherwise)
