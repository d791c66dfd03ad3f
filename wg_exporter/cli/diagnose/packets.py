"""`--packets`: each handshake message that passed, taken apart by scapy, with what it means.

scapy is imported only here, as that takes half a second and 40 MB. What it takes apart was sent by strangers: a packet
that it can't read is shown as bytes.
"""

from __future__ import annotations

from base64 import b64decode
from typing import TYPE_CHECKING, Any, NamedTuple

from wg_exporter.causes.refused import words
from wg_exporter.reader.initiation import is_initiation, made_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from wg_exporter.cli.pcap import Caught


class Keys(NamedTuple):
    """The public keys of the device and of the peer, base64; empty = not known."""

    ours: str
    theirs: str


def load() -> Callable[[Sequence[Caught], Keys, float], Iterator[str]]:
    """`described`, once all is there that it needs: importing that takes long on a busy host."""
    import scapy.contrib.wireguard  # noqa: PLC0415 - see above
    import scapy.layers.inet6  # noqa: F401, PLC0415

    return described


def described(caught: Sequence[Caught], keys: Keys, began: float) -> Iterator[str]:
    """A line for each packet; `began` is wall-clock seconds, from which times are counted."""
    from scapy.contrib.wireguard import Wireguard  # noqa: PLC0415 - see above
    from scapy.layers.inet import ICMP, IP, UDP  # noqa: PLC0415
    from scapy.layers.inet6 import IPv6  # noqa: PLC0415

    sent: set[int] = set()
    for one in caught:
        when = f"{one.stamp - began:7.3f} s  {one.interface:<10} {'out' if one.outgoing else 'in ':<3}"
        try:
            packet = (IPv6 if one.data[0] >> 4 == 6 else IP)(one.data)
            if UDP in packet:
                message = Wireguard(bytes(packet[UDP].payload))
                ends = f"{packet.src}:{packet[UDP].sport} > {packet.dst}:{packet[UDP].dport}"
                meaning = _meaning(message, bytes(packet[UDP].payload), keys, sent, outgoing=one.outgoing)
            elif ICMP in packet:
                ends, meaning = (
                    f"{packet.src} > {packet.dst}",
                    _refusal(packet[ICMP].type, packet[ICMP].code, ipv6=False),
                )
            else:
                kind, code = one.data[40], one.data[41]
                ends, meaning = f"{packet.src} > {packet.dst}", _refusal(kind, code, ipv6=True)
        except Exception:  # noqa: BLE001 - whatever a stranger's bytes do to scapy
            ends, meaning = "", f"{len(one.data)} bytes that can't be read: {one.data[:40].hex()}"
        yield f"{when} {ends}  {meaning}"


def _refusal(kind: int, code: int, *, ipv6: bool) -> str:
    says = words(kind, code, ipv6=ipv6) or "an error"
    return f"ICMP{'v6' if ipv6 else ''} {kind}/{code}, {says}: it quotes a message of ours"


def _meaning(message: Any, payload: bytes, keys: Keys, sent: set[int], *, outgoing: bool) -> str:
    """What a handshake message is, whom it is made for, and what it answers. `sent` collects indices of ours."""
    inside = message.payload
    if message.message_type == 1:
        if outgoing:
            sent.add(inside.sender_index)
        return f"initiation {inside.sender_index:#010x}: {_made_for(payload, keys, outgoing=outgoing)}"
    if message.message_type == 2:
        if outgoing:
            return f"response to {inside.receiver_index:#010x}: WireGuard here took an initiation of theirs"
        known = inside.receiver_index in sent
        answer = "to an initiation of ours that was seen leaving" if known else "to nothing that was seen leaving"
        return f"response to {inside.receiver_index:#010x}: {answer}"
    if message.message_type == 3:
        who = "we are" if outgoing else "the far side is"
        return f"cookie reply to {inside.receiver_index:#010x}: {who} under load, and asked to be called again with it"
    return "no handshake message"


def _made_for(payload: bytes, keys: Keys, *, outgoing: bool) -> str:
    if not is_initiation(payload):
        return "of another length than it should have"
    key, whose = (keys.theirs, "the peer's key") if outgoing else (keys.ours, "our key")
    if not key:
        return "whom it is made for is not known"
    if made_for(b64decode(key), payload):
        return f"a call for a handshake, made for {whose} (mac1)"
    return f"a call for a handshake, made for another key than {whose} (mac1)"
