"""The page at `/`: what it says of a host with unhealthy peers, and that nothing can be smuggled into it."""

from __future__ import annotations

import html
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.rows import SECOND, STATS, WALL, FakeHost, FakeTime, device, key, link, peer
from tests.serving import PAGES, App, running
from wg_exporter.config import Config, NamespaceConfig, PeerConfig
from wg_exporter.daemon.exporter import STATUS_PEERS, Exporter
from wg_exporter.daemon.page import status_of
from wg_exporter.health.states import PeerHealth, Reason, State
from wg_exporter.health.summary import Summary, summary
from wg_exporter.model import SourceName
from wg_exporter.names.identity import PeerMeta
from wg_exporter.probed import MtuReport, Probed, Verdict
from wg_exporter.web.landing import Group, Landing, PeerRow, Status, UnhealthyRow

NOW = 1_767_225_600.0  # 2026-01-01 00:00:00 UTC
BERLIN = UnhealthyRow(
    "berlin", "wg0", "down", "handshake_unanswered", "2 initiations unanswered for 27 s", "Look.", NOW - 240, bad=True
)


def page(*unhealthy, unready="", **more):
    found = Status(NOW, unhealthy=unhealthy, **more)
    return Landing("/metrics", PAGES).html(found, unready, NOW).decode()


def words(text):
    """What a reader sees."""
    return " ".join(html.unescape(re.sub(r"<style>.*?</style>|<[^>]+>", " ", text, flags=re.DOTALL)).split())


# --- what it says ----------------------------------------------------------------------------------------------------


def test_it_says_how_many_should_be_up_and_are_not():
    assert "1 of 1 up" in words(page(expected=1))
    found = words(page(expected=4, down=1, degraded=2, open=1))
    assert "2 of 4 up; 1 down; 2 degraded; 1 not judged yet" in found
    quiet = page(expected=3, idle=2)
    assert "1 of 3 up; 2 quiet: idle or dead" in words(quiet)
    assert 'class="sum odd"' in quiet


def test_the_host_is_named_on_the_page_and_in_its_title():
    assert "<title>hub &lt;1&gt;: 2 of 3 up - wg-exporter</title>" in page(expected=3, open=1, host="hub <1>")
    assert "<h1>hub &lt;1&gt; <small>" in page(host="hub <1>")
    assert "<title>hub: not ready - wg-exporter</title>" in page(host="hub", unready="not yet")


def test_who_is_down_is_there_with_the_reason_the_evidence_and_since_when():
    found = words(page(BERLIN, expected=3, down=1))
    assert "berlin on wg0: down , handshake_unanswered since 2025-12-31 23:56:00 UTC, 4 min ago; seen then: 2" in found
    assert "seen then: 2 initiations unanswered for 27 s" in found
    assert "<title>hub: 1 down - wg-exporter</title>" in page(BERLIN, expected=3, down=1, host="hub")


def test_who_was_down_already_when_the_exporter_started_has_no_time():
    assert "since before wg-exporter was started" in words(page(BERLIN._replace(since=0.0), expected=3, down=1))


def test_what_was_found_and_what_to_do_is_with_each_peer():
    commands = BERLIN._replace(found="`a` found", advice="Try `show` <or> `mtu`.")
    text = page(commands, expected=3, down=1)
    assert '<div class="todo">Try <code>show</code> &lt;or&gt; <code>mtu</code>.</div></li>' in text
    assert "<div><code>a</code> found</div>" in text


def test_all_peers_are_there_folded_under_their_interface():
    rows = (PeerRow("anna", "up", "12.3 ms"), PeerRow("bert", "up"), PeerRow("<phone>", "idle"))
    text = page(expected=1, groups=(Group("wg0", rows), Group("wg1 in blue", ())))
    assert "<details><summary>wg0: 2 up, 1 idle</summary>" in text
    assert "<summary>wg1 in blue: no peers</summary>" in text
    assert "<tr><td>anna</td><td>up</td><td>12.3 ms</td></tr>" in text
    assert "<td>&lt;phone&gt;</td>" in text
    assert "<details open" not in text


def test_those_for_whom_there_is_no_room_are_counted():
    assert "and 1,233 more" in words(page(BERLIN, expected=2000, down=1200, degraded=34))
    assert "more" not in words(page(BERLIN, expected=3, down=1))


def test_what_could_not_be_read_is_said_and_nothing_looks_fine():
    found = page(expected=0, problems=("kernel: Operation not permitted",))
    assert "kernel: Operation not permitted" in words(found)
    assert 'class="sum good"' not in found
    assert 'class="sum good"' in page(expected=1)


def test_a_host_that_waits_for_nobody_is_not_green_but_says_that_nothing_here_can_page():
    found = page(others=3)
    assert 'class="sum odd">nothing here can page: of 3 peers none is expected up</p>' in found
    assert "a hub whose branches call in expects nobody" in words(found)
    assert "nothing here can page: no WireGuard peer was found" in words(page())
    assert "nothing here can page" not in words(page(expected=1, others=3))


def test_a_page_about_a_host_that_is_not_looked_at_any_more_says_so():
    landing = Landing("/metrics", PAGES)
    assert "this page is old" not in landing.html(Status(NOW), "", NOW + 30).decode()
    assert "the devices were last looked at 31 s ago" in landing.html(Status(NOW), "", NOW + 31).decode()


def test_before_the_first_look_there_is_nothing_but_that():
    found = words(page(unready="the WireGuard devices have not been read yet"))
    assert "the WireGuard devices have not been read yet" in found
    assert "expected up" not in found


# --- nothing else gets in --------------------------------------------------------------------------------------------


class _Tags(HTMLParser):
    def __init__(self):
        super().__init__()
        self.found = []

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, tuple(name for name, _ in attrs)))


def tags(text):
    parser = _Tags()
    parser.feed(text)
    return parser.found


@given(st.text(alphabet=st.characters(exclude_categories=[]), max_size=60))
def test_whatever_a_peer_is_called_the_page_has_the_same_elements(bad):
    row = UnhealthyRow(bad, bad, bad, bad, bad, "Look.", NOW - 1, bad=True)
    usual = page(BERLIN, expected=1, down=1, problems=("x",), groups=(Group("a", (PeerRow("a", "up"),)),))
    found = page(row, expected=1, down=1, problems=(bad,), host=bad, groups=(Group(bad, (PeerRow(bad, bad, bad),)),))
    assert tags(found) == tags(usual)
    assert "script" not in {tag for tag, _ in tags(found)}


@pytest.mark.parametrize("bad", ["<script>alert(1)</script>", "{style}", '"><img src=x>', "a\u202eb\x1b[2J\ud83d"])
def test_markup_braces_and_controls_in_a_name_are_text(bad):
    found = page(BERLIN._replace(peer=bad), expected=1, down=1)
    seen = "".join(c if c.isprintable() else "\ufffd" for c in bad)
    assert f"<b>{html.escape(seen)}</b>" in found


# --- the server and the exporter behind it ---------------------------------------------------------------------------


def test_the_server_says_anew_each_time_how_the_host_is():
    app = App()
    with running(app) as server:
        app.found = Status(NOW, expected=3)
        assert "3 of 3 up" in server.get("/").body.decode()
        app.found = Status(NOW, expected=3, down=1, unhealthy=(BERLIN,))
        answer = server.get("/")
        assert "2 of 3 up; 1 down" in answer.body.decode()
        assert answer.headers["Cache-Control"] == "no-store"
        app.problem = "not yet"
        assert "not yet" in server.get("/").body.decode()


@pytest.fixture
def exporter():
    host, time = FakeHost(), FakeTime()
    exporter = Exporter(Config(), None, host.sources, time.clock)
    exporter.host, exporter.time = host, time
    yield exporter
    exporter.stop()


def test_the_status_of_an_exporter_is_that_of_its_last_tick(exporter):
    fresh = peer(1, last_handshake_ns=int((WALL - 10) * SECOND))
    exporter.host.devices, exporter.host.links = [device(fresh, peer(2), peer(3, persistent_keepalive=0))], [link()]
    exporter.tick()
    assert exporter.status().summary == Summary(expected=2, open=2)
    for _ in range(7):
        exporter.time.advance(5)
        exporter.tick()
    found = status_of(exporter)
    assert (found.expected, found.down, found.open, found.at) == (2, 1, 0, WALL + 35)
    [lost] = found.unhealthy
    assert (lost.place, lost.state, lost.reason, lost.since, lost.bad) == ("wg0", "down", "never_heard", 0.0, True)
    assert lost.advice
    exporter.host.devices, exporter.host.links = [], []
    for _ in range(7):
        exporter.time.advance(5)
        exporter.tick()
    assert {peer.reason for peer in status_of(exporter).unhealthy} == {"interface_gone"}
    assert exporter.status().problems == ("wg0 is gone",)


def test_the_status_of_an_exporter_that_may_read_nothing_names_the_problem(exporter):
    exporter.host.problems[SourceName.KERNEL] = "Operation not permitted"
    exporter.tick()
    assert exporter.status().problems == ("kernel: Operation not permitted",)


def test_of_many_the_latest_that_went_down_come_first_and_degraded_ones_last():
    def row(state, at):
        return PeerHealth(state, Reason.ONE_WAY if state is State.DOWN else Reason.LOSSY, changed_at=at)

    rows = [row(State.DOWN, 5.0), row(State.DEGRADED, 9.0), PeerHealth(State.UP), row(State.DOWN, 7.0)]
    rows += [row(State.DEGRADED, 8.0)]
    metas = [PeerMeta(str(n), True, True) for n in range(5)]
    found = summary([(("", "wg0"), list("abcde"), metas, rows)], 3)
    assert [peer.public_key for peer in found.unhealthy] == ["d", "a", "b"]
    assert (found.expected, found.down, found.degraded, found.open) == (5, 2, 2, 0)
    many = [row(State.DOWN, float(n)) for n in range(10_000)]
    metas = [PeerMeta("", False, True)] * 10_000
    found = summary([(("", "wg0"), ["k"] * 10_000, metas, many)], STATUS_PEERS)
    assert len(found.unhealthy) == STATUS_PEERS
    assert found.down == 10_000


class _Prober:
    """One that found a hole on the way to peer 1, and that peer 2 answers."""

    def __init__(self, netns=""):
        self.known = {}
        self._device = (netns, "wg0")

    def results(self):
        return {self._device: dict(self.known)}

    def set_peers(self, peers): ...
    def configure(self, config): ...
    def counters(self, rows): ...
    def scheduling_delay(self): ...
    def stop(self): ...
    def usages(self):
        return ()


def test_commands_on_the_page_are_led_into_the_namespace_of_the_interface():
    host, time, prober = FakeHost(), FakeTime(), _Prober("blue")
    config = Config(namespaces=(NamespaceConfig("blue", pid=42),))
    exporter = Exporter(config, None, host.sources, time.clock, prober=prober)
    try:
        host.devices = [device(peer(1, last_handshake_ns=int((WALL - 10) * SECOND)), netns="blue")]
        host.links = [link(netns="blue")]
        hole = MtuReport(Verdict.BLACKHOLE, 1420, 1380, None, 0, None, 1376, None, "", WALL)
        for second in range(5, 125, 5):
            time.advance(5)
            stats = STATS._replace(sent=second, lost=0, late=0, rtt_sum=second * 0.02, rtt_last=0.02)
            prober.known = {key(1): Probed("10.0.0.2", stats, hole)}
            exporter.tick()
        [row] = status_of(exporter).unhealthy
        assert row.found.endswith("; set 1376: `nsenter --net=/proc/42/ns/net ip link set dev wg0 mtu 1376`")
        entries = [one.entry for one in exporter.overview().devices]
        assert entries == ["nsenter --net=/proc/42/ns/net "]
    finally:
        exporter.stop()


def test_the_page_of_an_exporter_has_commands_to_copy_and_sizes_target_and_advice_of_a_verdict():
    host, time, prober = FakeHost(), FakeTime(), _Prober()
    config = Config(peers=(PeerConfig(public_key=key(1), name="berlin"), PeerConfig(public_key=key(2), name="a `b` c")))
    exporter = Exporter(config, Path("/etc/my wg.yml"), host.sources, time.clock, prober=prober)
    try:
        rows = [peer(number, last_handshake_ns=int((WALL - 10) * SECOND)) for number in (1, 2)]
        host.devices, host.links = [device(*rows)], [link()]
        hole = MtuReport(Verdict.BLACKHOLE, 1420, 1380, None, 0, None, 1376, None, "", WALL)
        for second in range(5, 125, 5):
            time.advance(5)
            stats = STATS._replace(sent=second, lost=0, late=0, rtt_sum=second * 0.02, rtt_last=0.02)
            prober.known = {key(1): Probed("10.0.0.2", stats, hole), key(2): Probed("10.0.0.3", stats, hole)}
            exporter.tick()
        found = status_of(exporter)
        [group] = found.groups
        assert next((row.peer, row.state, row.facts) for row in group.peers) == (
            "berlin", "degraded", "mtu_blackhole, 20.0 ms",
        )  # fmt: skip
        said = {row.peer: row for row in found.unhealthy}
        assert said["berlin"].advice.startswith("`wg-exporter mtu '--config.file=/etc/my wg.yml' wg0 berlin` shows")
        assert said["berlin"].found == (
            "MTU blackhole: packets of 1420 bytes were sent to 10.0.0.2; 1380 bytes pass inside the tunnel; set 1376: "
            "`ip link set dev wg0 mtu 1376`"
        )
        # A name that would have to be quoted is not put into a command.
        assert f"wg0 {key(2)}`" in said["a `b` c"].advice
        text = Landing("/metrics", PAGES).html(found, "", WALL).decode()
        assert "INTERFACE" not in words(text)
        assert "PEER" not in words(text)
        # Then it falls silent: what was measured before is not shown as if it were of now.
        for second in range(5, 65, 5):
            time.advance(5)
            silent = stats._replace(
                up=False, sent=120 + second, lost=second, silent_since=time.clock.monotonic() - second
            )
            prober.known = {key(1): Probed("10.0.0.2", silent, hole)}
            exporter.tick()
        assert {row.facts for row in status_of(exporter).groups[0].peers if row.peer == "berlin"} == {"not_sent"}
    finally:
        exporter.stop()


def test_a_page_of_ten_thousand_peers_is_made_in_a_second_and_lists_all():
    from time import process_time

    rows = tuple(PeerRow(f"peer-{number}", "up", "12.3 ms") for number in range(10_000))
    begun = process_time()
    text = page(expected=10_000, groups=(Group("wg0", rows),))
    assert process_time() - begun < 1.5
    assert text.count("<tr>") == 10_000
