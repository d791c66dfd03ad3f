"""Links against `ip -s -j link`: recorded from two kernels, and of this host; and bytes that are wrong."""

from __future__ import annotations

import contextlib
import errno
import json
import struct
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.netlinking import FakeKernel, Request, done, error, message, nla
from tests.recordings import KERNELS, payloads, text
from wg_exporter.linux.netlink import DecodeError, InterruptedDumpError, NetlinkError
from wg_exporter.model import Link
from wg_exporter.reader.links.links import WIREGUARD_KINDS, LinkReader, decode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

INTR = 0x10


def told(link: dict[str, Any]) -> Link:
    """A link as `ip -s -d -j link` tells it."""
    rx, tx = link["stats64"]["rx"], link["stats64"]["tx"]
    numbers = [side[what] for what in ("packets", "bytes", "errors", "dropped") for side in (rx, tx)]
    kind = link.get("linkinfo", {}).get("info_kind", "")
    return Link("", link["ifname"], link["ifindex"], kind, "UP" in link["flags"], link["mtu"], *numbers)


def recorded(kernel: str) -> list[bytes]:
    return list(payloads(f"{kernel}-links", header=0))


@pytest.mark.parametrize("kernel", KERNELS)
def test_recorded_links_are_what_ip_said_at_the_same_moment(kernel: str) -> None:
    truth = [told(link) for link in json.loads(text(f"{kernel}-links"))]
    assert [decode(data, 0, len(data)) for data in recorded(kernel)] == truth
    busy = [link for link in truth if link.kind == "wireguard" and link.rx_bytes and link.tx_packets]
    assert busy, "a tunnel with traffic is among them"


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_recorded_link_is_down_without_its_flag_and_all_else_is_the_same(kernel: str) -> None:
    for data in recorded(kernel):
        down = bytearray(data)
        down[8] &= ~1  # IFF_UP, in struct ifinfomsg
        assert decode(data, 0, len(data)).up
        assert decode(down, 0, len(down)) == decode(data, 0, len(data))._replace(up=False)


def serving(answer: Callable[[Request], Iterator[bytes] | list[bytes]]) -> tuple[FakeKernel, LinkReader]:
    kernel = FakeKernel(answer)
    return kernel, LinkReader(open_socket=kernel.open)


@pytest.mark.parametrize("kernel", KERNELS)
def test_only_links_that_can_be_wireguard_are_read_by_index(kernel: str) -> None:
    data = recorded(kernel)
    _, reader = serving(
        lambda request: [*(message(16, request.sequence, one) for one in reversed(data)), done(request.sequence)]
    )
    truth = [told(link) for link in json.loads(text(f"{kernel}-links"))]
    wanted = [link for link in truth if link.kind in WIREGUARD_KINDS]
    assert reader.read() == sorted(wanted, key=lambda link: link.ifindex)
    assert 1 < len(wanted) < len(truth)


def a_link(name: str, kind: str, index: int = 5) -> bytes:
    header = b"\0\0" + b"\xfe\xff" + index.to_bytes(4, "little") + (1).to_bytes(4, "little") + bytes(4)
    return header + nla(3, name.encode() + b"\0") + nla(18 | 0x8000, nla(1, kind.encode() + b"\0"))


def test_a_link_that_is_named_like_a_kind_is_not_taken_for_one() -> None:
    links = [a_link("wireguard", "dummy"), a_link("tun", "veth", 6), a_link("eth0", "wireguard", 7)]
    _, reader = serving(
        lambda request: [*(message(16, request.sequence, link) for link in links), done(request.sequence)]
    )
    assert [link.name for link in reader.read()] == ["eth0"]


def test_an_interrupted_list_is_asked_for_again_and_given_up_after_three_times() -> None:
    tries = {"wrong": 2}

    def answer(request: Request) -> list[bytes]:
        flags = INTR if request.sequence <= tries["wrong"] else 0
        return [message(16, request.sequence, a_link("wg0", "wireguard")), done(request.sequence, 0, flags)]

    kernel, reader = serving(answer)
    assert [link.name for link in reader.read()] == ["wg0"]
    assert len(kernel.requests) == 3
    tries["wrong"] = 99
    with pytest.raises(InterruptedDumpError):
        reader.read()
    assert len(kernel.requests) == 6


def test_a_refusal_is_an_error_and_the_next_read_works() -> None:
    def answer(request: Request) -> list[bytes]:
        if request.sequence == 1:
            return [error(request.sequence, -errno.ENOMEM)]
        return [message(16, request.sequence, a_link("wg0", "wireguard")), done(request.sequence)]

    _, reader = serving(answer)
    with pytest.raises(NetlinkError):
        reader.read()
    assert [link.name for link in reader.read()] == ["wg0"]


def test_one_kind_is_asked_for_by_that_kind() -> None:
    kernel = FakeKernel(lambda request: [done(request.sequence)])
    LinkReader(("wireguard",), kernel.open).read()
    LinkReader(WIREGUARD_KINDS, kernel.open).read()
    one, all_of_them = [request.body for request in kernel.requests]
    assert one == bytes(16) + nla(18, nla(1, b"wireguard"))
    assert all_of_them == bytes(16)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_a_link_with_bits_flipped_or_cut_short_is_an_error_or_a_result(data: st.DataObject) -> None:
    bad = bytearray(data.draw(st.sampled_from(recorded(KERNELS[1]))))
    for _ in range(data.draw(st.integers(0, 3))):
        bit = data.draw(st.integers(0, 8 * len(bad) - 1))
        bad[bit // 8] ^= 1 << bit % 8
    cut = data.draw(st.integers(0, len(bad)))
    try:
        link = decode(bad, 0, cut)
    except DecodeError:
        return
    assert isinstance(link, Link)


@given(st.binary(max_size=200))
def test_random_bytes_are_an_error_or_a_result(data: bytes) -> None:
    with contextlib.suppress(DecodeError):
        assert isinstance(decode(data, 0, len(data)), Link)


def test_names_that_are_not_utf_8_are_read() -> None:
    data = bytes(16) + nla(3, b"wg\xff\0")
    assert decode(data, 0, len(data)).name == "wg\N{REPLACEMENT CHARACTER}"


def test_a_link_is_up_by_its_own_flag_alone_and_counters_are_64_bits_without_a_sign() -> None:
    for flags, up in ((0x1, True), (0x1003, True), (0x1002, False), (0, False)):
        header = struct.pack("=BxHiII", 0, 0, 5, flags, 0)
        data = (
            header + nla(23, struct.pack("=9Q", *(2**64 - 1 - n for n in range(9)))) + nla(4, struct.pack("=I", 1420))
        )
        assert decode(data, 0, len(data)) == Link("", "", 5, "", up, 1420, *(2**64 - 1 - n for n in range(8)))


def test_the_links_of_this_host_are_those_of_ip() -> None:
    """Loopback is of no kind; its packets may move in between, so between two sayings that are the same."""
    reader = LinkReader(("",))
    read = LinkReader.read(reader)
    assert all(link.kind == "" for link in read)
    out = subprocess.run(["ip", "-s", "-d", "-j", "link"], capture_output=True, text=True, check=True).stdout
    truth = {link.ifindex: link for link in map(told, json.loads(out)) if link.kind == ""}
    assert {link.ifindex: (link.name, link.mtu, link.up) for link in read} == {
        index: (link.name, link.mtu, link.up) for index, link in truth.items()
    }
    lo = next(link for link in read if link.name == "lo")
    assert lo.rx_packets <= truth[lo.ifindex].rx_packets
    reader.close()
