"""nfnetlink's messages about a ruleset, taken apart: bytes in, rows out, no socket.

Whatever is not understood becomes a step that is not known, never an exception: a newer kernel has new expressions.
Numbers are in network byte order (linux/netfilter/nf_tables.h). pyroute2 has a decoder too; it has names in place of
numbers, None in place of those that it does not know, and no deadline.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from wg_exporter.cli.diagnose.firewall.ruleset import Chain, Element, Hook, Rule, Set, Step, Verdict
from wg_exporter.linux.netlink import DecodeError, attributes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

NFGENMSG = 4  # bytes: family, version, a number of no use here

MOST_EXPRESSIONS = 128  # of a rule: the kernel's own limit (NFT_RULE_MAXEXPRS)

_CHAIN_TABLE, _CHAIN_NAME, _CHAIN_HOOK, _CHAIN_POLICY = 1, 3, 4, 5
_HOOK_NUMBER, _HOOK_PRIORITY, _HOOK_DEVICE, _HOOK_DEVICES = 1, 2, 3, 4
_RULE_TABLE, _RULE_CHAIN, _RULE_HANDLE, _RULE_EXPRESSIONS = 1, 2, 3, 4
_SET_TABLE, _SET_NAME, _SET_FLAGS = 1, 2, 3
_ELEMENTS_LIST = 3
_ELEMENT_KEY, _ELEMENT_DATA, _ELEMENT_FLAGS, _ELEMENT_KEY_END = 1, 2, 3, 10
_INTERVAL, _INTERVAL_END = 0x4, 0x1


def _number(value: bytes) -> int:
    return int.from_bytes(value)


def _signed(value: bytes) -> int:
    return int.from_bytes(value, signed=True)


def _text(value: bytes) -> str:
    return value.rstrip(b"\0").decode("utf-8", "replace")


def _data(value: bytes) -> bytes | Verdict | None:
    """NFTA_DATA_VALUE or NFTA_DATA_VERDICT."""
    found = _fields(value)
    if 1 in found:
        return found[1]
    verdict = _fields(found.get(2, b""))
    if len(verdict.get(1, b"")) != 4:
        return None
    return Verdict(_signed(verdict[1]), _text(verdict.get(2, b"")))


# For each expression: what each attribute is called here, and how it is read.
_Reader = tuple[str, "Callable[[bytes], object]"]
_KINDS: Mapping[str, Mapping[int, _Reader]] = {
    "immediate": {1: ("dreg", _number), 2: ("data", _data)},
    "cmp": {1: ("sreg", _number), 2: ("op", _number), 3: ("data", _data)},
    "range": {1: ("sreg", _number), 2: ("op", _number), 3: ("from", _data), 4: ("to", _data)},
    "payload": {1: ("dreg", _number), 2: ("base", _number), 3: ("offset", _number), 4: ("len", _number)},
    "meta": {1: ("dreg", _number), 2: ("key", _number)},
    "ct": {1: ("dreg", _number), 2: ("key", _number)},
    "bitwise": {
        1: ("sreg", _number), 2: ("dreg", _number), 3: ("len", _number), 4: ("mask", _data), 5: ("xor", _data),
        6: ("op", _number),
    },
    "byteorder": {1: ("sreg", _number), 2: ("dreg", _number), 4: ("len", _number), 5: ("size", _number)},
    "lookup": {1: ("set", _text), 2: ("sreg", _number), 3: ("dreg", _number), 5: ("flags", _number)},
    "counter": {2: ("packets", _number)},
    "match": {1: ("name", _text)},
    "target": {1: ("name", _text)},
    "socket": {2: ("dreg", _number)},
    "hash": {2: ("dreg", _number)},
    **{kind: {1: ("dreg", _number)} for kind in ("fib", "rt", "numgen", "osf", "exthdr", "xfrm", "tunnel")},
}  # fmt: skip


def chain(message: bytes) -> Chain | None:
    """A chain without its rules; None for what is none."""
    family, found = message[0] if message else 0, _fields(message[NFGENMSG:])
    if _CHAIN_NAME not in found:
        return None
    hook = None
    if _CHAIN_HOOK in found:
        place = _fields(found[_CHAIN_HOOK])
        devices = [value for _, value in _walk(place.get(_HOOK_DEVICES, b""))] + [place.get(_HOOK_DEVICE, b"")]
        names = tuple(dict.fromkeys(_text(value) for value in devices if value))
        hook = Hook(_number(place.get(_HOOK_NUMBER, b"")), _signed(place.get(_HOOK_PRIORITY, b"")), names)
    accepts = _number(found.get(_CHAIN_POLICY, b"\1")) != 0
    return Chain(family, _text(found.get(_CHAIN_TABLE, b"")), _text(found[_CHAIN_NAME]), hook, accepts)


def rule(message: bytes) -> tuple[tuple[int, str, str], Rule] | None:
    """A rule, and (family, table, chain) in which it is; None for what is none."""
    family, found = message[0] if message else 0, _fields(message[NFGENMSG:])
    if _RULE_HANDLE not in found:
        return None
    steps: list[Step] = []
    packets = None
    for _, expression in _walk(found.get(_RULE_EXPRESSIONS, b"")):
        if len(steps) == MOST_EXPRESSIONS:
            break
        step = _step(_fields(expression))
        steps.append(step)
        if step.kind == "counter" and isinstance(count := step.fields.get("packets"), int):
            packets = count
    place = family, _text(found.get(_RULE_TABLE, b"")), _text(found.get(_RULE_CHAIN, b""))
    return place, Rule(_number(found[_RULE_HANDLE]), tuple(steps), packets)


def named_set(message: bytes) -> tuple[tuple[int, str, str], Set] | None:
    """A set without its elements, and (family, table, name)."""
    family, found = message[0] if message else 0, _fields(message[NFGENMSG:])
    if _SET_NAME not in found:
        return None
    place = family, _text(found.get(_SET_TABLE, b"")), _text(found[_SET_NAME])
    return place, Set(intervals=bool(_number(found.get(_SET_FLAGS, b"")) & _INTERVAL))


def elements(message: bytes) -> list[Element]:
    """The elements in one message."""
    found = []
    for _, value in _walk(_fields(message[NFGENMSG:]).get(_ELEMENTS_LIST, b"")):
        fields = _fields(value)
        key = _data(fields.get(_ELEMENT_KEY, b""))
        if not isinstance(key, bytes):
            continue
        end = _data(fields.get(_ELEMENT_KEY_END, b""))
        ends = bool(_number(fields.get(_ELEMENT_FLAGS, b"")) & _INTERVAL_END)
        data = _data(fields.get(_ELEMENT_DATA, b""))
        found.append(Element(key, end if isinstance(end, bytes) else None, ends, data))
    return found


def _step(expression: Mapping[int, bytes]) -> Step:
    kind = _text(expression.get(1, b""))
    readers = _KINDS.get(kind, {})
    found = _fields(expression.get(2, b""))
    return Step(kind, {name: read(found[at]) for at, (name, read) in readers.items() if at in found})


def _fields(data: bytes) -> dict[int, bytes]:
    return dict(_walk(data))


def _walk(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Type and payload of each attribute; those after a damaged one are left out."""
    try:
        for kind, first, last in attributes(data, 0, len(data)):
            yield kind, data[first:last]
    except DecodeError:
        return
