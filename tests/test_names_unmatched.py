"""Entries of the configuration that match nothing on the host: which are told, and which are not known to."""

from __future__ import annotations

import logging

import pytest

from tests.rows import conf_file, declared, device, key, link, peer, snapshot
from wg_exporter.config import Config, parse
from wg_exporter.model import USERSPACE_KIND, Backend, FailedDevice, Outcome, SourceName
from wg_exporter.names.table import Names
from wg_exporter.names.unmatched import MOST, Matching, told
from wg_exporter.status.rows import from_view
from wg_exporter.web.landing import headline_of


def configured(text):
    return parse(text, "config.yml")


def look(matching, config, seen):
    names = Names(config)
    names.use(seen.conf)
    return matching.look(seen, names.metas)


def told_of(text, *devices, **more):
    """Where the entries stand that match nothing on a host with these devices."""
    rows = {name: more.pop(name) for name in ("idle_patterns", "left_out") if name in more}
    seen = snapshot(*devices, **{"links": [link(row.name) for row in devices], **more})._replace(**rows)
    config = configured(text)
    return [found.where for found in look(Matching(config), config, seen)]


HUB = device(peer(1, allowed_ips=("10.1.0.2/32",)), peer(2), name="wg0")
BERLIN = (conf_file("wg0", declared(1, "berlin"), declared(7, "lyon")),)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("{}", []),
        ('interfaces: {include: ["*"]}', []),
        ("interfaces: {include: [wg0, wg-tset*]}", ["interfaces.include[1]"]),
        ("interfaces: {exclude: [wg-tset*]}", ["interfaces.exclude[0]"]),
        ("interfaces: {exclude: [wg0]}", []),
        (f"peers: [{{public_key: {key(1)}, name: a}}, {{public_key: {key(9)}, name: b}}]", ["peers[1]"]),
        (f"peers: [{{public_key: {key(1)}, name: a, interface: wg1}}]", ["peers[0]"]),
        (f"peers: [{{public_key: {key(1)}, name: a, interface: wg0}}]", []),
        ("expect: [{state: any}]", []),
        ('expect: [{name: "*", state: any}]', []),
        ("expect: [{name: berlin, state: up}, {name: berln, state: up}]", ["expect[1]"]),
        ("expect: [{allowed_ip: 10.1.0.0/16, state: up}, {allowed_ip: 10.7.0.0/16, state: up}]", ["expect[1]"]),
        ("expect: [{interface: wg1, state: up}]", ["expect[0]"]),
        (f"expect: [{{public_key: {key(2)}, state: up}}, {{public_key: {key(9)}, state: up}}]", ["expect[1]"]),
        (f"expect: [{{public_key: {key(2)}, interface: wg1, state: up}}]", ["expect[0]"]),
    ],
)
def test_an_entry_that_matches_nothing_is_told_and_no_other(text, found):
    assert told_of(text, HUB, conf=BERLIN) == found


def test_a_peer_that_a_file_describes_is_there_though_its_device_lacks_it():
    """That it is not loaded is another story, and told as such."""
    text = f"peers: [{{public_key: {key(7)}, interface: wg0, name: lyon}}]\nexpect: [{{name: lyon, state: up}}]"
    assert told_of(text, HUB, conf=BERLIN) == []
    assert told_of(text, HUB) == ["peers[0]", "expect[0]"]


def test_a_host_without_any_device_is_told_only_what_was_asked_for_by_name():
    assert told_of('interfaces: {include: ["*"]}\nexpect: [{state: up}]') == []
    assert told_of("interfaces: {include: [wg0]}") == ["interfaces.include[0]"]


def test_an_interface_that_a_file_describes_may_come_up_later_as_at_boot():
    assert told_of("interfaces: {include: [wg0]}", conf=BERLIN) == []
    assert told_of("interfaces: {include: [wg7]}", conf=BERLIN) == ["interfaces.include[0]"]


def test_a_file_pattern_that_matches_no_file_is_told_by_the_place_of_its_entry():
    text = "names: [/etc/wireguard/*.conf, /etc//wg/*.conf]"
    assert told_of(text, HUB, idle_patterns=("/etc/wg/*.conf",)) == ["names[1]"]
    assert told_of("{}", HUB, idle_patterns=("/etc/wireguard/*.conf",)) == [], "nobody asked for the default"


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        (f"public_key: {key(999)}, name: hub", "this is the public key of wg0 itself (hub)"),
        (f"public_key: {key(2)}, name: a, interface: wg1", "it is on wg0: correct `interface`"),
        (f"public_key: {key(9)}, name: a", "no peer here has this public key (a); correct the key"),
    ],
)
def test_it_says_what_is_wrong_with_an_entry_about_a_peer(entry, words):
    config = configured(f"peers: [{{{entry}}}]")
    (found,) = look(Matching(config), config, snapshot(HUB))
    assert words in found.problem


def test_of_an_excluded_userspace_interface_the_link_is_enough_or_the_socket():
    text = "interfaces: {exclude: [utun*]}"
    assert told_of(text, HUB, links=[link("utun9", kind=USERSPACE_KIND)]) == []
    assert told_of(text, HUB, left_out=frozenset({"utun9"})) == []
    assert told_of("interfaces: {include: [tun*]}", HUB, links=[link("tun0", kind=USERSPACE_KIND)]) == [
        "interfaces.include[0]"
    ], "that may be somebody else's tunnel"


EVERYTHING = f"""
interfaces: {{include: [wg0, wg9]}}
peers: [{{public_key: {key(8)}, name: a}}, {{public_key: {key(9)}, name: b, interface: wg0}}]
expect: [{{name: nobody, state: up}}, {{allowed_ip: 10.7.0.0/16, interface: wg0, state: up}}]
"""


@pytest.mark.parametrize("source", [SourceName.KERNEL, SourceName.USERSPACE, SourceName.LINKS])
def test_what_could_not_be_read_may_have_what_an_entry_is_about(source):
    assert told_of(EVERYTHING, HUB, outcomes=(Outcome(source, "", False, 0.1, "denied"),)) == []


def test_of_names_nothing_is_known_while_the_files_can_not_be_read():
    found = told_of(EVERYTHING, HUB, outcomes=(Outcome(SourceName.CONF, "", False, 0.1, "denied"),))
    assert found == ["interfaces.include[1]", "peers[0]", "peers[1]", "expect[1]"]


def test_packets_that_can_not_be_counted_say_nothing_of_what_is_there():
    found = told_of(EVERYTHING, HUB, outcomes=(Outcome(SourceName.ACCOUNTING, "", False, 0.1, "denied"),))
    assert found == told_of(EVERYTHING, HUB)


def test_a_device_that_could_not_be_read_may_have_the_peer():
    failed = (FailedDevice("", "wg3", Backend.USERSPACE, "no answer"),)
    assert told_of(EVERYTHING, HUB, failed=failed) == ["interfaces.include[1]", "peers[1]", "expect[1]"]


def test_an_entry_that_has_matched_once_is_not_asked_about_again():
    config = configured(EVERYTHING.replace("wg9", "wg1"))
    matching, other = Matching(config), device(peer(8), name="wg1")
    assert "interfaces.include[1]" in [found.where for found in look(matching, config, snapshot(HUB))]
    here = [found.where for found in look(matching, config, snapshot(HUB, other))]
    assert here == ["peers[1]", "expect[0]", "expect[1]"]
    assert [found.where for found in look(matching, config, snapshot(HUB))] == here


def test_while_nothing_changes_it_is_the_same_answer_and_nobody_is_asked():
    config = configured(EVERYTHING)
    matching, seen, names = Matching(config), snapshot(HUB), Names(config)
    first = matching.look(seen, names.metas)
    rules = matching._rules
    moved = snapshot(HUB._replace(peers=peers_moved(HUB)))
    assert matching.look(moved, names.metas) is first
    assert matching._rules is rules, "counters decide nothing here"


def peers_moved(row):
    more = [each._replace(rx_bytes=each.rx_bytes + 100) for each in row.peers]
    return type(row.peers).of(more, row.peers)


def test_of_a_file_for_a_whole_fleet_a_few_are_told_and_the_rest_counted():
    entries = ", ".join(f"{{public_key: {key(n)}, name: p{n}}}" for n in range(100, 400))
    config = configured(f"peers: [{entries}]")
    lines = list(told(look(Matching(config), config, snapshot(HUB))))
    assert len(lines) == MOST + 1
    assert lines[-1] == "and 290 more entries of the configuration match nothing"


# --- in the log, on the page and in `show` ---------------------------------------------------------------------------


def test_it_is_logged_once_and_stays_on_the_page_and_in_show(rig, caplog):
    caplog.set_level(logging.WARNING, "wg_exporter")
    config = configured("expect: [{name: berln, state: up}]")
    exporter = rig.exporter(config)
    for _ in range(3):
        rig.tick(exporter)
    logged = [r.fields["problem"] for r in caplog.records if r.getMessage() == "configuration matches nothing"]
    line = "expect[0] in the configuration: no peer here matches name berln; correct it, or take it out"
    assert logged == [line]
    assert line in exporter.status().problems
    assert line in from_view(*exporter.look()).problems


def test_after_a_reload_only_what_is_new_is_logged(rig, caplog, tmp_path):
    caplog.set_level(logging.WARNING, "wg_exporter")
    (path := tmp_path / "config.yml").write_text("expect: [{name: a, state: up}]")
    exporter = rig.exporter(configured(path.read_text()), path)
    rig.tick(exporter)
    path.write_text("expect: [{name: a, state: up}, {name: b, state: up}]")
    assert exporter.reload() == ""
    rig.tick(exporter)
    told_ = [r.fields["problem"][:9] for r in caplog.records if r.getMessage() == "configuration matches nothing"]
    assert told_ == ["expect[0]", "expect[1]"]
    # Another slip in the same place is another line, also if nobody could tell for a while.
    path.write_text("expect: [{name: c, state: up}, {name: b, state: up}]")
    rig.host.problems = {SourceName.KERNEL: "busy"}
    assert exporter.reload() == ""
    rig.tick(exporter)
    rig.host.problems = {}
    rig.tick(exporter)
    problems = [r.fields["problem"] for r in caplog.records if r.getMessage() == "configuration matches nothing"]
    assert [problem[:9] for problem in problems] == ["expect[0]", "expect[1]", "expect[0]"]


def test_the_page_knows_how_many_there_are_that_nobody_waits_for(rig):
    exporter = rig.exporter(Config(expect=configured("expect: [{state: any}]").expect))
    rig.tick(exporter)
    status = exporter.status()
    assert (status.summary.expected, status.others) == (0, 2)
    assert headline_of(exporter.last()).text == "nothing here can page: of 2 peers none is expected up"
