"""Where a device belongs that is read in one place and lives in another, and who is named whom nobody could read."""

from __future__ import annotations

import pytest

from tests.rigs import reading
from tests.rows import FakeHost, FakeTime, device, link, peer, snapshot
from wg_exporter.config import Config, NamespaceConfig
from wg_exporter.model import Backend, FailedDevice, Failure, Outcome, SourceName
from wg_exporter.reader.reader import Reader, Reading, Worker
from wg_exporter.sources import with_unread

KERNEL, USERSPACE, LINKS = SourceName.KERNEL, SourceName.USERSPACE, SourceName.LINKS


@pytest.fixture
def time_():
    return FakeTime()


# --- where userspace devices are at home ------------------------------------------------------------------------------

WG_GO = device(peer(1), backend=Backend.USERSPACE)
BROKEN = FailedDevice("", "wg0", Backend.USERSPACE, "no answer")


@pytest.mark.parametrize(
    ("links", "netns"),
    [
        ([], ""),
        ([("", link(kind="tun"))], ""),
        ([("blue", link(kind="tun"))], "blue"),
        ([("", link(kind="tun")), ("blue", link(kind="tun"))], ""),
        ([("blue", link(kind="tun")), ("", link(kind="tun"))], ""),
        ([("", link(kind="wireguard")), ("blue", link(kind="tun"))], "blue"),
        ([("blue", link(kind="wireguard"))], ""),
        ([("blue", link("wg1", kind="tun"))], ""),
    ],
)
def test_a_userspace_device_belongs_where_the_tun_of_its_name_is(time_, links, netns):
    read = [(LINKS, Reading(links=[row]), place) for place, row in links]
    with reading(time_, (USERSPACE, Reading([WG_GO]), ""), *read) as reader:
        assert [row.netns for row in reader.read().devices] == [netns]
    with reading(time_, (USERSPACE, Reading(failed=[BROKEN]), ""), *read) as reader:
        assert [row.netns for row in reader.read().failed] == [netns]


def test_a_userspace_device_stays_where_it_was_while_no_link_can_be_read(time_):
    host = FakeHost()
    host.links = [link(kind="tun", netns="blue")]
    made = [*host.workers(Config(namespaces=(NamespaceConfig("blue"),)), time_.clock)]
    made.append(Worker(USERSPACE, lambda: Reading([WG_GO]), clock=time_.clock))
    reader = Reader(made, time_.clock)

    def place():
        return [row.netns for row in reader.read().devices]

    assert place() == ["blue"]
    host.problems[LINKS] = "no answer"
    assert place() == ["blue"]
    del host.problems[LINKS]
    host.links = [link(kind="tun")]
    assert place() == [""]
    reader.stop()


def test_a_userspace_device_stays_where_it_was_while_a_tun_of_its_name_is_there(time_):
    """Which of two tuns is the device's nobody can tell; that it was in one of them before can be known."""
    host = FakeHost()
    host.links = [link(kind="tun", netns="blue")]
    made = [*host.workers(Config(namespaces=(NamespaceConfig("blue"),)), time_.clock)]
    made.append(Worker(USERSPACE, lambda: Reading([WG_GO]), clock=time_.clock))
    reader = Reader(made, time_.clock)
    assert [row.netns for row in reader.read().devices] == ["blue"]
    host.links = [link(kind="tun"), link(kind="tun", netns="blue")]
    assert [row.netns for row in reader.read().devices] == ["blue"]
    reader.stop()


def test_a_tun_elsewhere_does_not_move_a_kernel_device(time_):
    with reading(
        time_, (KERNEL, Reading([device(peer(1))]), ""), (LINKS, Reading(links=[link(kind="tun")]), "blue")
    ) as r:
        assert [row.netns for row in r.read().devices] == [""]


def test_of_two_devices_of_one_name_in_one_namespace_the_kernels_is_served(time_):
    kernel = device(peer(2))
    with reading(time_, (KERNEL, Reading([kernel]), ""), (USERSPACE, Reading([WG_GO]), "")) as reader:
        found = reader.read()
        assert found.devices == (kernel,)
        (line,) = found.doubles
        assert line.startswith("wg0: a kernel device and a userspace daemon have this name; the kernel's is shown")
    with reading(time_, (KERNEL, Reading([kernel]), ""), (USERSPACE, Reading(failed=[BROKEN]), "")) as reader:
        found = reader.read()
        assert (found.devices, found.failed, found.doubles) == ((kernel,), (), ()), (
            "a dead socket left behind is not the device"
        )


def test_a_device_that_two_sources_could_not_read_is_told_of_once(time_):
    other = FailedDevice("", "wg0", Backend.KERNEL, "interrupted")
    with reading(time_, (KERNEL, Reading(failed=[other]), ""), (USERSPACE, Reading(failed=[BROKEN]), "")) as reader:
        assert reader.read().failed == (other,)


# --- devices that a failed source left out ----------------------------------------------------------------------------


def test_a_kernel_device_whose_source_failed_is_a_failed_device_where_links_can_be_read():
    outcomes = (
        Outcome(SourceName.KERNEL, "", success=False, duration=0.1, problem="no", failure=Failure.DENIED),
        Outcome(SourceName.KERNEL, "blue", success=True, duration=0.1),
    )
    links = [link("wg0", kind="wireguard"), link("hidden", kind="wireguard"), link("tun0", kind="tun")]
    links.append(link("wg1", kind="wireguard", netns="blue"))
    seen = snapshot(links=links)._replace(outcomes=outcomes)
    assert with_unread(seen, lambda name: name != "hidden").failed == (
        FailedDevice("", "wg0", Backend.KERNEL, "no", Failure.DENIED),
    )


def test_where_no_source_failed_nothing_is_added():
    seen = snapshot(links=[link("wg0", kind="wireguard")])
    assert with_unread(seen, lambda _name: True) is seen


def test_each_kind_of_kernel_device_is_missed_from_its_own_source():
    outcomes = tuple(
        Outcome(source, "", success=False, duration=0.1, problem=f"no {source}")
        for source in (SourceName.KERNEL, SourceName.AMNEZIAWG, SourceName.USERSPACE)
    )
    links = [link(f"wg{at}", kind=kind) for at, kind in enumerate(("wireguard", "amneziawg", "tun"))]
    assert with_unread(snapshot(links=links)._replace(outcomes=outcomes), lambda _name: True).failed == (
        FailedDevice("", "wg0", Backend.KERNEL, "no kernel"),
        FailedDevice("", "wg1", Backend.AMNEZIAWG, "no amneziawg"),
    )


def test_a_device_that_was_read_or_is_named_already_is_not_named_again():
    outcomes = (Outcome(SourceName.KERNEL, "", success=False, duration=0.1, problem="interrupted"),)
    named = FailedDevice("", "wg1", Backend.KERNEL, "busy")
    seen = snapshot(device(peer(1)), links=[link("wg0"), link("wg1"), link("wg2")], failed=(named,))
    assert with_unread(seen._replace(outcomes=outcomes), lambda _name: True).failed == (
        named,
        FailedDevice("", "wg2", Backend.KERNEL, "interrupted"),
    )
