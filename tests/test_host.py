"""What is known of a host beyond one look: who is missed, who is silent, and what a status says is wrong."""

from __future__ import annotations

import logging

import pytest

from tests.rigs import UP, found, labelled, of
from tests.rows import conf_file, declared, device, link, peer
from wg_exporter.config import Config, Interfaces, NamespaceConfig
from wg_exporter.linux.errors import DeniedError, NamespaceGoneError
from wg_exporter.model import Backend, FailedDevice, SourceName
from wg_exporter.status.rows import from_view

NO_SOCKET = "the interface is there, but its control socket is not"
BLUE = (NamespaceConfig("blue"),)


def problems(exporter) -> tuple[str, ...]:
    exporter.tick()
    return exporter.status().problems


# --- who is missed ----------------------------------------------------------------------------------------------------


def test_what_is_expected_in_a_namespace_that_does_not_exist_is_missed(rig):
    rig.host.devices = rig.host.links = []
    exporter = rig.exporter(Config(Interfaces(expect=("blue/wg0",)), BLUE))
    rig.host.problems[SourceName.LINKS] = NamespaceGoneError("namespace blue does not exist")
    assert found(exporter, UP) == {labelled(interface="wg0", netns="blue"): 0}
    rig.host.problems[SourceName.LINKS] = "no permission"
    assert found(exporter, UP) == {}, "of a namespace that is there nobody knows what is in it"


def test_only_links_say_whether_an_interface_is_gone(rig):
    rig.host.devices = rig.host.links = []
    exporter = rig.exporter(Config(Interfaces(expect=("wg0",))))
    rig.host.problems = dict.fromkeys((SourceName.KERNEL, SourceName.CONF), "no permission")
    assert found(exporter, UP) == {labelled(interface="wg0"): 0}


def test_interfaces_that_are_gone_are_told_by_namespace_and_name(rig):
    rig.host.devices = rig.host.links = []
    exporter = rig.exporter(Config(Interfaces(expect=("wg2", "blue/wg0", "wg1")), BLUE))
    assert exporter.look()[1].missing == (("", "wg1"), ("", "wg2"), ("blue", "wg0"))


def test_whose_peers_are_expected_up_is_known_from_the_files_though_nobody_scrapes(rig):
    """The file says that it is the peer that calls, so nobody waits for the interface either."""
    rig.host.devices = [device(peer(1))]
    rig.host.conf = (conf_file("wg0", declared(1, "anna")),)
    exporter = rig.exporter()
    rig.tick(exporter)
    assert exporter.status().summary.expected == 0
    rig.host.devices = rig.host.links = []
    rig.tick(exporter)
    assert exporter.status().problems == ()


# --- who is silent ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "silent"), [("tun", True), ("wireguard", False), ("dummy", False)])
def test_an_expected_tun_without_a_device_is_one_whose_daemon_is_gone(rig, kind, silent):
    rig.host.devices, rig.host.links = [], [link(kind=kind), link("tun7", ifindex=8, kind="tun")]
    exporter = rig.exporter(Config(Interfaces(expect=("wg0",))))
    row = FailedDevice("", "wg0", Backend.USERSPACE, NO_SOCKET)
    assert exporter.look()[1].failed == (((row, rig.host.links[0]),) if silent else ())
    assert problems(exporter) == ((f"wg0 could not be read: {NO_SOCKET}",) if silent else ())
    assert of(exporter, UP) == ([1] if silent else [])


def test_a_described_tun_that_nothing_reads_is_named_and_its_read_failed(rig, caplog):
    """The directory of the control sockets is not mounted, as happens in a container."""
    caplog.set_level(logging.WARNING, "wg_exporter")
    rig.host.devices, rig.host.links = [], [link(kind="tun"), link("tun7", ifindex=8, kind="tun")]
    rig.host.conf = (conf_file("wg0", declared(1)), conf_file("wg9", declared(2)), conf_file("tun7"))
    exporter = rig.exporter()
    assert found(exporter, "wireguard_interface_read_success") == {labelled(interface="wg0"): 0}
    (line,) = problems(exporter)
    assert line.startswith(f"wg0 could not be read: {NO_SOCKET}; if wg-exporter is in a container, mount /var/run/w")
    rig.tick(exporter)
    logged = [record.fields for record in caplog.records if record.getMessage() == "device not read"]
    assert [row["interface"] for row in logged] == ["wg0"]


def test_a_described_tun_whose_source_failed_is_named_with_what_failed(rig):
    rig.host.devices, rig.host.links = [], [link(kind="tun")]
    rig.host.conf = (conf_file("wg0", declared(1)),)
    rig.host.problems[SourceName.USERSPACE] = DeniedError("permission denied")
    assert "wg0 could not be read: permission denied" in problems(rig.exporter())


@pytest.mark.parametrize("why", ["excluded", "elsewhere", "kernel", "read"])
def test_a_described_interface_that_is_left_out_or_no_tun_or_read_is_not_named(rig, why):
    elsewhere = "blue" if why == "elsewhere" else ""
    rig.host.devices = [device(peer(1))] if why == "read" else []
    rig.host.links = [link(kind="wireguard" if why == "kernel" else "tun", netns=elsewhere)]
    rig.host.conf = (conf_file("wg0", declared(1)),)
    exporter = rig.exporter(Config(Interfaces(exclude=("wg0",) if why == "excluded" else ()), BLUE))
    assert problems(exporter) == ()


def test_two_devices_of_one_name_are_told_in_the_log_and_on_the_page(rig, caplog):
    caplog.set_level(logging.WARNING, "wg_exporter")
    rig.host.doubles = ("wg0: several daemons",)
    exporter = rig.exporter()
    for _ in range(3):
        rig.tick(exporter)
    assert exporter.status().problems == rig.host.doubles
    assert rig.host.doubles[0] in from_view(*exporter.look()).problems
    assert [r.fields["problem"] for r in caplog.records if r.getMessage() == "devices of one name"] == [
        *rig.host.doubles
    ]


def test_a_tun_that_is_read_or_known_to_have_failed_is_not_silent_too(rig):
    rig.host.links = [link(kind="tun")]
    exporter = rig.exporter(Config(Interfaces(expect=("wg0",))))
    assert exporter.look()[1].failed == ()
    rig.host.devices, rig.host.failed = [], [FailedDevice("", "wg0", Backend.USERSPACE, "no answer")]
    assert [row.problem for row, _ in exporter.look()[1].failed] == ["no answer"]


# --- what is wrong ----------------------------------------------------------------------------------------------------


def test_a_host_of_which_all_can_be_seen_has_no_problem(rig):
    assert problems(rig.exporter()) == ()


def test_each_problem_is_a_line_that_says_where(rig):
    rig.host.devices, rig.host.links = [], [link("wg5", kind="tun", netns="blue")]
    rig.host.failed = [FailedDevice("", "wg1", Backend.KERNEL, "interrupted")]
    rig.host.problems[SourceName.CONF] = "no permission"
    config = Config(Interfaces(expect=("wg0", "blue/wg7", "blue/wg5")), BLUE)
    assert problems(rig.exporter(config)) == (
        "conf: no permission",
        "wg1 could not be read: interrupted",
        "wg1 in blue could not be read: interrupted",
        f"wg5 in blue could not be read: {NO_SOCKET}",
        "wg0 is gone",
        "wg7 in blue is gone",
    )


def test_a_source_that_fails_in_a_namespace_is_told_with_it(rig):
    rig.host.problems[SourceName.LINKS] = "no answer"
    assert problems(rig.exporter(Config(namespaces=BLUE))) == ("links: no answer", "links in blue: no answer")
