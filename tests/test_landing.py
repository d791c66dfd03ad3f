"""The page at `/` as the server makes it: what it says of a host, and that nothing can be smuggled into it."""

from __future__ import annotations

import html
import re
from html.parser import HTMLParser
from pathlib import Path
from time import process_time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.hosts import NOW, device, failed, gone, host, hostile_host, outcome, peer
from tests.probers import Unwatched
from tests.rows import SECOND, STATS, WALL, FakeHost, FakeTime, key, link
from tests.rows import device as read
from tests.rows import peer as read_peer
from tests.serving import PAGES, App, running
from wg_exporter.config import Config, Metrics, NamespaceConfig, PeerConfig
from wg_exporter.daemon.exporter import STATUS_PEERS, Exporter
from wg_exporter.drift.kinds import Drift
from wg_exporter.drift.kinds import Kind as Difference
from wg_exporter.events import Kind, Level, event
from wg_exporter.health.quality import Window
from wg_exporter.health.states import NOT_JUDGED, PeerHealth, Reason, State
from wg_exporter.health.summary import Summary, summary
from wg_exporter.history.round_trips import Line
from wg_exporter.model import SourceName
from wg_exporter.names.identity import PeerMeta
from wg_exporter.probed import MtuReport, Probed, Verdict
from wg_exporter.quiet import Quiet
from wg_exporter.status.document import document
from wg_exporter.status.rows import Echoes, Teller
from wg_exporter.web.html import Templates
from wg_exporter.web.landing import Landing
from wg_exporter.web.peers import moment

TELLER = Teller("1.2.3", "hub", "", NOW - 3600)
DOWN = PeerHealth(
    State.DOWN,
    Reason.HANDSHAKE_UNANSWERED,
    changed_at=NOW - 240,
    evidence="2 initiations unanswered for 27 s",
    reason_at=NOW - 240,
)
BERLIN = peer("berlin", key="A", age=300, keepalive=25, expected=True, health=DOWN)
FRAGMENTED = MtuReport(Verdict.FRAGMENTED_PATH, 1420, 1420, 1400, 0, 1480, 1340, None, "192.0.2.1", NOW - 60)


def page(*devices, unready="", name="hub", late=0.0, **more):
    found = host(*devices, **more)._replace(teller=TELLER._replace(host=name))
    return landing().html(document(found), unready, NOW + late).decode()


def landing():
    return Landing("/metrics", PAGES, "/api/v1/status")


def words(text):
    """What a reader sees."""
    text = re.sub(r"<template.*?</template>|<head>.*?</head>", " ", text, flags=re.DOTALL)
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", text)).split())


def well(name, state=State.UP, **more):
    return peer(name, key=name[0], expected=more.pop("expected", True), health=PeerHealth(state), **more)


# --- what it says ----------------------------------------------------------------------------------------------------


def test_it_says_how_many_should_be_up_and_are_not():
    fine = page(device(well("a")))
    assert ("1 of 1 up" in words(fine), 'role="status" class="good"' in fine) == (True, True)
    rows = [BERLIN, well("b", State.DEGRADED), well("c"), well("d"), well("e")]
    bad = page(device(*rows))
    assert "4 of 5 up; 1 down; 1 degraded" in words(bad)
    assert 'role="status" class="bad"' in bad
    quiet = page(device(well("a"), well("b", State.IDLE), well("c", State.IDLE)))
    assert "1 of 3 up; 2 idle or dead" in words(quiet)
    assert 'role="status" class="odd"' in quiet


def test_who_is_not_judged_yet_is_not_counted_as_up():
    found = device(well("a"), well("b"))
    found = found._replace(peers=(found.peers[0], found.peers[1]._replace(health=NOT_JUDGED)))
    text = page(found)
    assert "1 of 2 up; 1 not judged yet" in words(text)
    assert '<tr><td class="state"><b>not known</b>' in text


def test_what_happened_is_listed_the_latest_first_and_what_holds_markup_is_text():
    rows = [
        event(
            Kind.STATE, NOW - 60 + n, ("", "wg0"), level=Level.WARN, public_key=key(n), name=f"<b>{n}</b>", after="down"
        )
        for n in range(30)
    ]
    text = landing().html(document(host()._replace(teller=TELLER)), "", NOW, rows).decode()
    assert text.count('<li class="odd"><time>') == 20
    said = words(text)
    assert said.index("<b>29</b> on wg0: down") < said.index("<b>10</b> on wg0: down")
    assert "<b>29</b>" not in text
    assert "<b>9</b>" not in said
    unready = landing().html(None, "not yet", NOW, rows[:1]).decode()
    assert "on wg0: down" in unready, "what happened before is known before the first look"


def test_the_host_is_named_on_the_page_and_in_its_title():
    assert "<title>hub &lt;1&gt;: 1 of 1 up - wg-exporter</title>" in page(device(well("a")), name="hub <1>")
    assert '<h1 id="host">hub &lt;1&gt;</h1>' in page(name="hub <1>")
    assert "<title>hub: not ready - wg-exporter</title>" in page(unready="not yet")
    assert "<title>hub: 1 down - wg-exporter</title>" in page(device(BERLIN))


def test_who_is_down_is_there_with_the_reason_the_evidence_since_when_and_what_to_do():
    found = words(page(device(BERLIN)))
    assert "down 4 minutes ago berlin wg0 handshake_unanswered 5 minutes ago - - -" in found
    assert "since 2025-10-09 08:49:20 UTC, 4 minutes ago; seen then: 2 initiations unanswered for 27 s" in found
    assert "Then compare its endpoint and port ( wg-exporter show wg0 berlin )" in found
    assert "<code>wg-exporter show wg0 berlin</code>" in page(device(BERLIN))


def test_a_reason_that_was_found_later_than_the_state_has_its_own_time():
    later = BERLIN._replace(health=DOWN._replace(reason_at=NOW - 60))
    assert "4 minutes ago; seen 2025-10-09 08:52:20 UTC, 60 seconds ago" in words(page(device(later)))


def test_peers_of_one_name_on_one_interface_have_the_beginning_of_their_keys():
    twins = [peer("berlin", key="A", age=1), peer("berlin", key="B", age=1)]
    text = page(device(*twins, peer("lyon", key="C")), device(peer("berlin", key="D"), name="wg1"))
    assert [f"key {letter * 8}" in text for letter in "ABCD"] == [True, True, False, False]


def test_who_was_down_already_when_the_exporter_started_has_no_time():
    before = BERLIN._replace(health=DOWN._replace(changed_at=0.0))
    assert "since before wg-exporter was started; seen 2025-10-09 08:49:20 UTC, 4 minutes ago:" in words(
        page(device(before))
    )


def test_the_worst_comes_first_then_the_latest_then_by_name_with_numbers_in_order():
    any_state = {"expected": False}
    rows = [
        well("up-10"), well("up-9"), well("idle", State.IDLE, **any_state), well("never", State.NEVER, **any_state),
        well("dead?", State.IDLE), well("bad", State.DEGRADED), BERLIN,
        BERLIN._replace(name="aachen", health=DOWN._replace(changed_at=NOW - 10)),
    ]  # fmt: skip
    found = page(device(*rows))
    order = ["aachen", "berlin", "bad", "dead?", "up-9", "up-10", "idle", "never"]
    assert re.findall(r'class="peer"><b>([^<]*)</b>', found)[:-1] == order


def test_round_trips_loss_and_the_mtu_are_there_as_show_has_them():
    row = well("paris")._replace(
        echoes=Echoes(True, 100, 3, 1),
        window=Window(0.025, 0.0302),
        mtu=FRAGMENTED,
        line=Line(NOW, [None, 0.01, 0.02, None, 0.04], [3, 0, 1, 0, 0]),
    )
    text = page(device(row))
    assert "30.2 ms 2.5% fragmented_path, set 1340" in words(text)
    assert "set 1340: ip link set dev wg0 mtu 1340" in words(text)
    assert "<title>last 1 minute: 10.0 ms to 40.0 ms, 4 probes lost</title>" in text
    # 0 is at the bottom, and the longest below the top; a gap where nothing was answered, strokes for what was lost.
    assert '<path class="mean" d="M30 16.0L50 12.0h0M90 4.0h0"/>' in text
    assert '<path class="area" d="M30 20L30 16.0L50 12.0V20ZM90 20L90 4.0V20Z"/>' in text
    assert '<path class="lost" d="M10 20V0M50 20V13"/>' in text


def test_a_line_of_which_nothing_was_answered_says_so():
    row = BERLIN._replace(echoes=Echoes(False, 9, 9, 0), line=Line(NOW, [None] * 40, [1] * 40))
    assert "last 10 minutes: no answer, 40 probes lost" in page(device(row))


def test_only_the_first_of_many_are_unfolded():
    text = page(device(*(BERLIN._replace(name=f"site-{n}") for n in range(30))))
    assert (text.count("<details open>"), text.count("<details>")) == (10, 21)  # one of these is the template


def test_what_could_not_be_read_is_said_and_nothing_looks_fine():
    denied = outcome("Operation not permitted")
    text = page(
        device(well("a")), failed("hung"), gone(BERLIN), outcomes=[denied], problems=("names.yml: no such file",)
    )
    found = words(text)
    for line in ("kernel: Operation not permitted", "wg1 could not be read: hung", "names.yml: no such file"):
        assert line in found
    assert "wg1 userspace, could not be read" in found
    assert "wg7 gone, 1 peer expected up" in found
    assert 'role="status" class="good"' not in text
    assert "wg0 is down" in words(page(device(well("a"), up=False)))
    assert "those of an earlier one" in words(page(device(well("a"), fresh=False)))


def test_of_very_many_problems_the_first_are_shown_and_the_others_counted():
    found = words(page(problems=tuple(f"problem {n}" for n in range(100))))
    assert "problem 19 and 80 more" in found
    assert "problem 20" not in found


def test_a_host_that_waits_for_nobody_is_not_green_but_says_that_nothing_here_can_page():
    text = page(device(*(well(name, expected=False) for name in "abc")))
    assert 'class="odd">nothing here can page: of 3 peers none is expected up</p>' in text
    assert "a hub whose branches call in expects nobody" in words(text)
    assert "nothing here can page: no WireGuard peer was found" in words(page())
    assert "nothing here can page" not in words(page(device(well("a"))))


def test_a_page_about_a_host_that_is_not_looked_at_any_more_says_so():
    assert "this page is old" not in page(late=30)
    assert "this page is old: the devices were last looked at 31 seconds ago" in page(late=31)
    assert "as of 2025-10-09 08:53:20 UTC" in words(page())


def test_before_the_first_look_there_is_nothing_but_that():
    text = landing().html(None, "the WireGuard devices have not been read yet", NOW).decode()
    assert "the WireGuard devices have not been read yet" in words(text)
    assert "<tbody" not in re.sub(r"<template.*?</template>", "", text, flags=re.DOTALL)


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


def rendered(overview, name="hub"):
    return landing().html(document(overview._replace(teller=TELLER._replace(host=name))), "", NOW).decode()


@given(st.text(alphabet=st.characters(exclude_categories=[], exclude_characters="`"), max_size=60))
@example("<script>alert(1)</script>")
@example('"><img src=x onerror=alert(1)>')
@example("{title}")
def test_whatever_a_peer_is_called_the_page_has_the_same_elements(bad):
    found = rendered(hostile_host(bad or "x"), bad)
    assert tags(found) == tags(rendered(hostile_host("x"), "x"))
    assert [tag for tag, _ in tags(found)].count("script") == 1


@pytest.mark.parametrize("bad", ["<script>alert(1)</script>", "{kind}", '"><img src=x>', "a\u202eb\x1b[2J\ud83d"])
def test_markup_braces_and_controls_in_a_name_are_text(bad):
    seen = "".join(c if c.isprintable() else "\ufffd" for c in bad.replace("\ud83d", "?"))
    assert f"<b>{html.escape(seen)}</b>" in page(device(well("a")._replace(name=bad)))


def test_a_template_is_filled_on_the_page_and_bare_for_the_browser():
    made = Templates('<p>{a}</p>\n<template id="x"><b class="{kind}">{text}</b></template>')
    assert made.page(a="<1>") == '<p>&lt;1&gt;</p>\n<template id="x"><b class=""></b></template>'
    assert made.part("x", kind="k", text="{a}&") == '<b class="k">{a}&amp;</b>'


# --- the server and the exporter behind it ---------------------------------------------------------------------------


def test_the_server_says_anew_each_time_how_the_host_is():
    app = App()
    with running(app) as server:
        app.found = document(host(device(well("a"))))
        assert "1 of 1 up" in server.get("/").body.decode()
        app.found = document(host(device(well("a"), BERLIN)))
        answer = server.get("/")
        assert "1 of 2 up; 1 down" in answer.body.decode()
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


def shown(exporter):
    """What the page says of an exporter now."""
    return landing().html(exporter.last(), "", exporter.last().time).decode()


def test_the_page_of_an_exporter_is_that_of_its_last_tick(exporter):
    assert exporter.last() is None
    fresh = read_peer(1, last_handshake_ns=int((WALL - 10) * SECOND))
    exporter.host.devices = [read(fresh, read_peer(2), read_peer(3, persistent_keepalive=0))]
    exporter.host.links = [link()]
    exporter.tick()
    assert exporter.status().summary == Summary(expected=2, open=2)
    for _ in range(7):
        exporter.time.advance(5)
        exporter.tick()
    reads = exporter.host.reads.total()
    found = exporter.last()
    assert exporter.host.reads.total() == reads, "the page waits for no source"
    assert found.time == WALL + 35
    states = [(one.state, one.reason, one.expected_up) for one in found.devices[0].peers]
    assert states == [("up", None, True), ("down", "never_heard", True), ("never", None, False)]
    assert found.devices[0].peers[1].advice
    assert "1 of 2 up; 1 down" in words(landing().html(found, "", WALL + 35).decode())
    exporter.host.devices, exporter.host.links = [], []
    for _ in range(7):
        exporter.time.advance(5)
        exporter.tick()
    assert {one.reason for part in exporter.last().devices for one in part.peers} == {"interface_gone"}
    assert exporter.last().problems == ["wg0 is gone"]
    assert exporter.status().problems == ("wg0 is gone",)


def test_the_page_tells_strangers_of_endpoints_as_the_metrics_do():
    host, time = FakeHost(), FakeTime()
    exporter = Exporter(Config(metrics=Metrics(endpoint="off")), None, host.sources, time.clock)
    try:
        host.devices, host.links = [read(read_peer(1))], [link()]
        exporter.tick()
        assert exporter.last().devices[0].peers[0].endpoint is None
    finally:
        exporter.stop()


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


class _Prober(Unwatched):
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
        host.devices = [read(read_peer(1, last_handshake_ns=int((WALL - 10) * SECOND)), netns="blue")]
        host.links = [link(netns="blue")]
        hole = MtuReport(Verdict.BLACKHOLE, 1420, 1380, None, 0, None, 1376, None, "", WALL)
        for second in range(5, 125, 5):
            time.advance(5)
            stats = STATS._replace(sent=second, lost=0, late=0, rtt_sum=second * 0.02, rtt_last=0.02)
            prober.known = {key(1): Probed("10.0.0.2", stats, hole)}
            exporter.tick()
        [row] = exporter.last().devices[0].peers
        assert row.mtu.findings.endswith("; set 1376: `nsenter --net=/proc/42/ns/net ip link set dev wg0 mtu 1376`")
        entries = [one.entry for one in exporter.overview().devices]
        assert entries == ["nsenter --net=/proc/42/ns/net "]
    finally:
        exporter.stop()


def test_the_page_of_an_exporter_has_commands_to_copy_and_sizes_target_and_advice_of_a_verdict():
    host, time, prober = FakeHost(), FakeTime(), _Prober()
    config = Config(peers=(PeerConfig(public_key=key(1), name="berlin"), PeerConfig(public_key=key(2), name="a `b` c")))
    exporter = Exporter(config, Path("/etc/my wg.yml"), host.sources, time.clock, prober=prober)
    try:
        rows = [read_peer(number, last_handshake_ns=int((WALL - 10) * SECOND)) for number in (1, 2)]
        host.devices, host.links = [read(*rows)], [link()]
        hole = MtuReport(Verdict.BLACKHOLE, 1420, 1380, None, 0, None, 1376, None, "", WALL)
        for second in range(5, 125, 5):
            time.advance(5)
            stats = STATS._replace(sent=second, lost=0, late=0, rtt_sum=second * 0.02, rtt_last=0.02)
            prober.known = {key(1): Probed("10.0.0.1", stats, hole), key(2): Probed("10.0.0.2", stats, hole)}
            exporter.tick()
        said = {row.label: row for row in exporter.last().devices[0].peers}
        assert said["berlin"].advice.startswith("`wg-exporter mtu '--config.file=/etc/my wg.yml' wg0 berlin` shows")
        assert said["berlin"].mtu.findings == (
            "MTU blackhole: packets of 1420 bytes were sent to 10.0.0.1; 1380 bytes pass inside the tunnel; set 1376: "
            "`ip link set dev wg0 mtu 1376`"
        )
        # A name that would have to be quoted is not put into a command.
        assert f"wg0 {key(2)}`" in said["a `b` c"].advice
        found = words(shown(exporter))
        assert "mtu_blackhole" in found
        assert "20.0 ms 0% blackhole, set 1376" in found
        assert "INTERFACE" not in found
        assert "PEER" not in found
        # Then it falls silent: what was measured before is not shown as if it were of now.
        for second in range(5, 65, 5):
            time.advance(5)
            silent = stats._replace(
                up=False, sent=120 + second, lost=second, silent_since=time.clock.monotonic() - second
            )
            prober.known = {key(1): Probed("10.0.0.2", silent, hole)}
            exporter.tick()
        berlin = next(row for row in exporter.last().devices[0].peers if row.label == "berlin")
        assert (berlin.reason, berlin.probe.round_trip_seconds) == ("not_sent", None)
    finally:
        exporter.stop()


def test_a_peer_that_somebody_works_on_is_marked_and_no_alarm():
    quiet = Quiet("", "wg0", BERLIN.peer.public_key, "berlin", NOW - 60, NOW + 3600, "new router")
    rows = [BERLIN._replace(quiet=quiet), well("b", State.DEGRADED), well("c")]
    text = page(device(*rows))
    assert "2 of 3 up; 1 degraded; 1 quiet" in words(text)
    assert 'role="status" class="odd"' in text
    assert "down 4 minutes ago, quiet" in words(text)
    assert f"quiet until {moment(NOW + 3600)}: new router" in words(text)
    names = re.findall(r'<th scope="row" class="peer"><b>([^<]*)</b>', text)
    assert names[:3] == ["b", "berlin", "c"], "worked on already, so below what nobody looks at"
    alone = page(device(BERLIN._replace(quiet=quiet._replace(reason=""))))
    assert f"quiet until {moment(NOW + 3600)} " in words(alone)
    assert "0 of 1 up; 1 quiet" in words(alone)


def test_an_interface_that_somebody_works_on_is_marked():
    quiet = Quiet("", "wg0", "", "", NOW - 60, NOW + 3600, "")
    row = well("c")._replace(quiet=quiet)
    assert f"MTU 1420, 1 peer, quiet until {moment(NOW + 3600)}" in words(page(device(row)._replace(quiet=quiet)))
    lost = gone(BERLIN._replace(quiet=quiet))._replace(quiet=quiet)
    assert f"gone, 1 peer expected up, quiet until {moment(NOW + 3600)}" in words(page(lost))


def test_an_interface_that_differs_from_its_file_says_in_how_many_places():
    drift = Drift("/etc/wireguard/wg0.conf", ((Difference.PEER_EXTRA, 2), (Difference.MTU, 1), (Difference.ADDRESS, 0)))
    shown = page(device(well("c"))._replace(drift=drift))
    assert "MTU 1420, 1 peer, differs from its file in 3 places" in words(shown)
    same = page(device(well("c"))._replace(drift=drift._replace(counts=((Difference.MTU, 0),))))
    assert "differs" not in words(same)


def test_a_page_of_ten_thousand_peers_is_made_in_seconds_and_lists_all():
    line = Line(NOW, [0.02] * 40, [0] * 40)
    row = well("peer")._replace(echoes=Echoes(True, 100, 3, 1), mtu=FRAGMENTED, window=Window(0.02, 0.0123), line=line)
    rows = tuple(row._replace(name=f"peer-{n}", peer=row.peer._replace(public_key=f"{n:043d}=")) for n in range(10_000))
    found = document(host(device(row)._replace(peers=rows)))
    begun = process_time()
    text = landing().html(found, "", NOW).decode()
    assert process_time() - begun < 8
    assert text.count('<th scope="row"') == 10_001  # and the template
