"""Causes in the exporter: sought in the background, hub first, told where states are, and never for who is well."""

from __future__ import annotations

import base64
import json
import logging
from itertools import pairwise
from math import inf

import pytest

from tests.rigs import found, of
from tests.rows import SECOND, WALL, conf_file, declared, device, key, link, peer, snapshot
from tests.test_exporter_probing import STATS, FakeProber
from wg_exporter.causes.cause import Cause, Confidence, Finding
from wg_exporter.config import Config, Metrics, PeerConfig
from wg_exporter.daemon import causes as seeking
from wg_exporter.daemon.facts import Look, Places, Two, facts, mark
from wg_exporter.health.states import PeerHealth
from wg_exporter.hostnames import EndpointName, LookupFailure
from wg_exporter.inspected import Inspected, Neighbour, Path, PathKind, PortOwner
from wg_exporter.model import Backend
from wg_exporter.names.identity import PeerMeta
from wg_exporter.probed import Probed, SendError
from wg_exporter.sighted import Refusal, Sighting

CAUSE = "wireguard_peer_cause"
OUT = Path("192.0.0.1", PathKind.SENT, "eth0", "198.51.100.1", "198.51.100.2")


class Sources:
    """The reader of an exporter, whose looks at the host the test plays."""

    def __init__(self, exporter):
        reader = exporter._setup.reader
        self.asked, self.rows, self.answer, self.waiting = [], {}, True, []
        self.exporter = exporter
        reader.inspect, reader.inspected = self.inspect, self.inspected

    def inspect(self, keys):
        self.asked.append(list(keys))
        self.waiting = list(keys)

    def inspected(self):
        keys, self.waiting = self.waiting, []
        at = self.exporter._snapshot.monotonic
        rows = [self.rows.get(one, inspected(one)) for one in keys if self.answer]
        return tuple((row() if callable(row) else row)._replace(at=at) for row in rows)


def inspected(one, **changes):
    row = Inspected(one, 0.0, "", "192.0.0.1:51820", OUT, None, ("10.0.0.254/24",), None, PortOwner.DEVICE)
    return row._replace(outer_rp_filter=0, outer_rp_drops=0, udp_received=5, **changes)


class Scene:
    """An exporter over a fake host, one tick after the other; peers in `mute` get our initiations and say nothing."""

    def __init__(self, rig, peers=(1,), **config):
        self.rig, self.prober = rig, FakeProber()
        self.prober.seen = {}
        rig.host.links = [link(addresses=("10.0.0.254/24",))]
        self.rows = {n: peer(n, last_handshake_ns=int(WALL) * SECOND) for n in peers}
        self.exporter = rig.exporter(prober=self.prober, **config)
        self.sources = Sources(self.exporter)
        self.mute, self.sent = set(), {}

    def tick(self, times=1):
        for _ in range(times):
            for n, row in self.rows.items():
                if n in self.mute:
                    self.rows[n] = row._replace(tx_bytes=row.tx_bytes + 148)
                    self.sent[n] = self.sent.get(n, 0) + 1
                else:
                    self.rows[n] = row._replace(tx_bytes=row.tx_bytes + 64, rx_bytes=row.rx_bytes + 64)
            self.rig.tick(self.exporter, device(*self.rows.values()))

    def see(self, n, began, **changes):
        now = self.rig.time.monotonic
        self.prober.seen = self.prober.seen | {("", "wg0", key(n)): Sighting(began, now - began)._replace(**changes)}

    def down(self, *numbers, ticks=8):
        """Let these fall silent: what is sent to them leaves, and nothing comes back."""
        self.mute |= set(numbers)
        began = self.rig.time.monotonic
        for _ in range(ticks):
            self.tick()
            for n in numbers:
                self.see(n, began, initiations_sent=self.sent[n])

    def causes(self):
        return {dict(at)["peer"]: dict(at)["cause"] for at in found(self.exporter, CAUSE)}

    def states(self):
        rows = found(self.exporter, "wireguard_peer_state").items()
        return {dict(at)["peer"]: dict(at)["state"] for at, value in rows if value}

    def asked_for(self):
        return [[int.from_bytes(base64.b64decode(one[2])[:2], "little") for one in asked]
                for asked in self.sources.asked]  # fmt: skip


@pytest.fixture
def scene(rig):
    return Scene(rig)


def document(exporter, *, private=True):
    made = json.loads(exporter.document(private=private))
    return {one["label"]: one["cause"] for row in made["devices"] for one in row["peers"]}


def test_nothing_is_sought_while_all_is_well(scene):
    scene.tick(10)
    assert scene.sources.asked == []
    assert scene.causes() == {}
    assert list(document(scene.exporter).values()) == [None]


def test_the_tick_that_finds_a_peer_down_has_its_cause(scene):
    scene.tick(3)
    scene.mute.add(1)
    began = scene.rig.time.monotonic
    for _ in range(12):
        scene.tick()
        scene.see(1, began, initiations_sent=scene.sent[1])
        if "down" in scene.states().values():
            break
    assert list(scene.causes().values()) == ["silent"]
    (told,) = document(scene.exporter).values()
    assert told["confidence"] == "likely"
    assert "nothing came back" in told["evidence"][0]
    assert any("wg show wg0 public-key" in line for line in told["fix"])
    assert {one["cause"] for one in told["excluded"]} >= {"no_route", "no_socket", "output_filtered"}


def test_states_are_published_before_causes_are_sought(scene, monkeypatch):
    scene.tick(3)
    seen = []
    follow = seeking.Causes.follow

    def slow(self, look, sources, watch):
        seen.append((scene.exporter.status().summary.down, scene.exporter._lock.locked()))
        return follow(self, look, sources, watch)

    monkeypatch.setattr(seeking.Causes, "follow", slow)
    scene.down(1)
    assert (1, False) in seen
    assert not any(locked for _, locked in seen), "a scrape must not wait for it"


def test_the_host_is_looked_at_while_a_peer_is_only_in_doubt_and_twice(scene):
    scene.tick(3)
    scene.mute.add(1)
    asked_when = {}
    for _ in range(10):
        scene.tick()
        asked_when.setdefault(len(scene.sources.asked), next(iter(scene.states().values())))
    assert asked_when[1] == "up", "it was not down yet"
    assert 2 <= len(scene.sources.asked) <= 3


def test_a_peer_that_comes_back_has_no_cause_any_more(scene):
    scene.tick(3)
    scene.down(1)
    assert scene.causes() != {}
    scene.mute.clear()
    scene.tick()
    assert scene.causes() == {}
    assert list(document(scene.exporter).values()) == [None]
    scene.tick(20)
    assert scene.causes() == {}


def test_a_route_that_is_missing_is_found_by_the_reader_alone(scene):
    scene.tick(3)
    scene.sources.rows = {
        ("", "wg0", key(1)): inspected(("", "wg0", key(1)), to_endpoint=Path("192.0.0.1", PathKind.NONE))
    }
    scene.mute.add(1)
    scene.tick(10)
    assert list(scene.causes().values()) == ["no_route"]


def test_what_a_device_has_other_than_its_file_is_evidence_if_it_may_be_why(scene):
    scene.rig.host.conf = (conf_file("wg0", declared(1, endpoint="192.0.2.99:51820", persistent_keepalive=7)),)
    scene.tick(3)
    scene.down(1)
    (told,) = document(scene.exporter).values()
    assert told["cause"] == "silent"
    (line,) = [line for line in told["evidence"] if "differs" in line]
    assert line.startswith("wg0 differs from its file: endpoint: 192.0.2.99:51820 in ")
    assert told["fix"][0].startswith("`wg-exporter drift wg0` ")


def test_files_are_compared_at_each_look_as_drift_is_an_event_and_never_beside_a_scrape(scene):
    history, seen = scene.exporter._history, []
    compare = history.drifts
    history.drifts = lambda snapshot: seen.append(scene.exporter._lock.locked()) or compare(snapshot)
    scene.tick(5)
    assert len(seen) == 5
    scene.down(1)
    assert len(seen) > 5
    assert all(seen), "what is compared is not thread-safe"


def test_a_host_name_that_moved_is_named_when_nothing_comes_back(scene):
    moved = EndpointName("vpn.example.com:51820", ("203.0.113.80:51820",), WALL, mismatch=True, resolved=True)
    scene.exporter._history.endpoint_names = lambda _device, _snapshot: (moved,)
    scene.tick(3)
    assert scene.causes() == {}, "a peer that is heard is well, wherever its name leads"
    scene.down(1)
    assert list(scene.causes().values()) == ["dns_moved"]
    (told,) = document(scene.exporter).values()
    assert "vpn.example.com resolves to 203.0.113.80 now" in told["evidence"][0]


@pytest.mark.parametrize("failure", [LookupFailure.NOT_FOUND, LookupFailure.NO_ANSWER])
def test_of_a_host_name_that_leads_nowhere_nothing_is_made_up(scene, failure):
    lost = EndpointName("vpn.example.com:51820", failure=failure, failed_since=WALL, resolved=False)
    scene.exporter._history.endpoint_names = lambda _device, _snapshot: (lost,)
    scene.tick(3)
    scene.down(1)
    assert "dns_moved" not in scene.causes().values()
    (told,) = document(scene.exporter).values()
    unseen = "vpn.example.com (no DNS server answers, or none can tell)" in (told["uncertain"] or "")
    assert unseen is (failure is LookupFailure.NO_ANSWER)


@pytest.mark.parametrize(("reach", "cause"), [(True, "preshared_key"), (False, "input_filtered")])
@pytest.mark.parametrize("late", [False, True])
def test_answers_that_no_session_comes_of_are_compared_with_what_the_sockets_got(scene, reach, cause, late):
    """Also for a peer whose turn comes when the first window is over: another one is opened for it."""
    one, answers = ("", "wg0", key(1)), [0]
    scene.sources.rows = {one: lambda: inspected(one)._replace(udp_received=5 + answers[0] * reach)}
    scene.sources.answer = not late
    scene.tick(3)
    scene.mute.add(1)
    began = scene.rig.time.monotonic
    for n in range(30):
        if late and n == 14:
            scene.sources.answer, began, answers[0] = True, scene.rig.time.monotonic, 0
            scene.sources.asked.clear()
            scene.exporter._causes._cases[one].evidence = ("other",)  # something else was seen, so it is sought again
        open_ = scene.rig.time.monotonic < began + 45
        answers[0] += open_
        scene.tick()
        seen = {"initiations_sent": answers[0], "responses_received": answers[0], "answered": answers[0]}
        scene.see(1, began, open=open_, **seen)
    assert list(scene.causes().values()) == [cause]


def test_without_the_reader_and_the_watcher_less_is_said_and_nothing_wrong(rig):
    scene = Scene(rig)
    scene.sources.answer = False
    scene.tick(3)
    scene.mute.add(1)
    scene.tick(25)
    assert scene.causes() == {}, "a page says nothing that may as well be wrong"
    (told,) = document(scene.exporter).values()
    assert (told["cause"], told["confidence"]) == ("silent", "possible")


@pytest.mark.parametrize(
    ("backend", "entered"), [(Backend.USERSPACE, 6), (Backend.KERNEL, None), (Backend.AMNEZIAWG, None)]
)
def test_what_enters_an_interface_is_known_only_where_a_daemon_reads_it(backend, entered):
    """The kernel counts there what leaves it again: where an output filter drops all of that, packets did enter."""
    places, row = Places(), snapshot(device(peer(1), backend=backend), links=(link(tx_packets=5, tx_dropped=1),))
    places.take(row)
    assert (
        mark(("", "wg0", key(1)), Look(row, *[None] * 2, None, {}, *[{}] * 3, places, *[None] * 2)).entered == entered
    )


def test_a_peer_that_is_made_anew_before_it_is_sought_for_is_compared_from_then_on(rig):
    """It counts from nothing, and never gets to where it was when the doubt began."""
    scene = Scene(rig, (1, 2, 3))
    for n in (1, 2):  # which come first
        scene.rows[n] = scene.rows[n]._replace(allowed_ips=(f"10.{n}.0.0/16",))
    scene.tick(3)
    scene.mute |= {1, 2, 3}
    began = scene.rig.time.monotonic
    for n in range(24):
        if n == 8:
            assert "down" in scene.states().values()
            scene.rows[3] = scene.rows[3]._replace(rx_bytes=0, tx_bytes=0, last_handshake_ns=0)
        scene.tick()
        for one in (1, 2, 3):
            scene.see(one, began)
    assert list(scene.causes().values()) == ["output_filtered"] * 3


def test_a_search_goes_on_until_the_wire_was_watched_for_long_enough(scene, monkeypatch):
    """Where two looks at the host decide nothing: some things are proved by what does not come within 20 s."""

    def late(known):
        long = known.sighting is not None and known.sighting.seconds >= 19
        return Finding(Cause.SILENT, Confidence.LIKELY if long else Confidence.POSSIBLE)

    monkeypatch.setattr(seeking, "decide", late)
    scene.tick(3)
    began = inf
    for n in range(50):
        scene.rows[1] = scene.rows[1]._replace(tx_bytes=scene.rows[1].tx_bytes + 148 * (n % 5 == 0))
        scene.rig.host.devices = [device(*scene.rows.values())]
        scene.rig.time.advance(1)
        scene.exporter.tick()
        if scene.sources.asked:
            began = min(began, scene.rig.time.monotonic)
            scene.see(1, began)
    assert list(scene.causes().values()) == ["silent"]
    assert len(scene.sources.asked) == 2


def test_two_peers_are_sought_for_at_a_time_and_the_hub_comes_first(rig):
    scene = Scene(rig, range(1, 9))
    scene.rows[5] = scene.rows[5]._replace(allowed_ips=("0.0.0.0/0",))
    scene.tick(3)
    scene.sources.answer = False
    scene.mute |= set(range(1, 9))
    scene.tick(9)
    first = scene.asked_for()[0]
    assert len(first) == 2
    assert first[0] == 5
    assert all(len(asked) <= 2 for asked in scene.asked_for())
    scene.tick(60)
    assert {n for asked in scene.asked_for() for n in asked} == set(range(1, 9))


def test_a_peer_is_sought_for_again_when_something_else_is_seen_and_once_a_minute_at_most(scene):
    scene.tick(3)
    scene.down(1)
    before = len(scene.sources.asked)
    scene.tick(30)
    assert len(scene.sources.asked) == before, "nothing else was seen"
    for n in range(24):  # another address calls at each look, for two minutes
        began = scene.rig.time.monotonic - 20
        scene.see(1, began, initiations_sent=4, misdirected=n % 2 * 3)
        scene.tick()
    again = len(scene.sources.asked) - before
    assert 1 <= again <= 6  # two looks for each search, at most


@pytest.mark.parametrize("proved_by", [2, None])
def test_a_search_that_proves_nothing_is_made_again_and_not_for_ever(scene, monkeypatch, proved_by):
    """A busy host can spoil what is compared."""
    began = set()

    def unsure(known):
        began.add(scene.exporter._causes._cases[known.key].sought_at)
        proved = proved_by is not None and len(began - {-inf}) >= proved_by
        return Finding(Cause.SILENT, Confidence.LIKELY if proved else Confidence.POSSIBLE)

    monkeypatch.setattr(seeking, "decide", unsure)
    scene.tick(3)
    scene.mute.add(1)
    for _ in range(100):
        scene.tick()
        scene.see(1, scene.rig.time.monotonic - 20, initiations_sent=4)
    assert list(scene.causes().values()) == (["silent"] if proved_by else [])
    times = sorted(began - {-inf})
    assert len(times) == (proved_by or seeking.TRIES)
    assert min(late - early for early, late in pairwise(times)) >= seeking.AGAIN_SECONDS


def test_what_was_proved_stays_when_nobody_watches_any_more(scene):
    scene.tick(3)
    scene.down(1)
    for _ in range(20):
        scene.tick()
        scene.see(1, scene.rig.time.monotonic - 20, initiations_sent=4, cookies_received=4)
    assert list(scene.causes().values()) == ["under_load"]
    began = scene.rig.time.monotonic
    for _ in range(20):  # another window that sees too little to tell anything
        scene.tick()
        scene.see(1, began, initiations_sent=1, responses_received=1, answered=1, missed=True)
    assert list(scene.causes().values()) == ["under_load"]


def test_what_the_host_said_stays_until_it_is_looked_at_again(scene):
    """A second search begins without it, and finds the same by less."""
    one = ("", "wg0", key(1))
    gone = OUT._replace(gateway="198.51.100.1", neighbour=Neighbour.SILENT)
    scene.sources.rows = {one: inspected(one, to_endpoint=gone)}
    refused = Refusal("198.51.100.2", ipv6=False, type=3, code=1, times=4, proven=0, own=True)
    scene.tick(3)
    scene.down(1)
    said = []
    for n in range(40):
        began = scene.rig.time.monotonic - 20
        scene.sources.answer = n < 20
        scene.tick()
        scene.see(1, began, initiations_sent=4, refusals=(refused,), misdirected=n // 20)
        said += document(scene.exporter).values()
    asked_again = len(scene.sources.asked) > 2
    assert asked_again
    assert said[15]["confidence"] == "certain"
    assert "`ip neigh`: FAILED" in said[15]["evidence"][-1]
    assert said[15:] == [said[15]] * len(said[15:])


def test_who_is_sought_for_is_watched_if_nobody_does_so_already(scene):
    scene.tick(3)
    scene.mute.add(1)
    scene.tick(9)
    seconds = {seconds for peers, seconds in scene.prober.windows if [one.key[2] for one in peers] == [key(1)]}
    assert seeking.SEARCH_SECONDS in seconds


def test_another_cause_is_told_when_it_is_found(scene, caplog):
    caplog.set_level(logging.INFO)
    scene.tick(3)
    scene.down(1)
    assert list(scene.causes().values()) == ["silent"]
    for _ in range(20):
        scene.tick()
        scene.see(1, scene.rig.time.monotonic - 20, initiations_sent=4, cookies_received=4)
    assert list(scene.causes().values()) == ["under_load"]
    lines = [line.fields for line in caplog.records if line.getMessage() == "cause found"]
    assert [line["cause"] for line in lines] == ["silent", "under_load"]
    assert all(line["evidence"] and line["confidence"] and line["peer"] for line in lines)


def test_where_the_reason_is_the_cause_nothing_is_looked_at_and_the_line_of_the_change_has_it(scene, caplog):
    caplog.set_level(logging.INFO)
    scene.tick(3)
    scene.rig.host.links = [link(up=False, addresses=("10.0.0.254/24",))]
    scene.tick(8)
    assert list(scene.causes().values()) == ["interface_down"]
    assert scene.sources.asked == []
    (line,) = [line.fields for line in caplog.records if line.getMessage() == "peer changed"]
    assert line["cause"] == "interface_down"
    assert "cause found" not in [line.getMessage() for line in caplog.records]


def test_the_cause_of_a_peer_stays_while_its_device_can_not_be_read(scene):
    scene.tick(3)
    scene.down(1)
    rows = [device(*scene.rows.values(), fresh=False)]
    for _ in range(20):
        scene.rig.tick(scene.exporter, *rows)
    assert list(scene.causes().values()) == ["silent"]


def test_peers_of_an_interface_that_is_gone_have_a_cause(scene):
    scene.tick(3)
    scene.rig.host.links = []
    for _ in range(8):
        scene.rig.host.devices = []
        scene.rig.time.advance(5)
        scene.exporter.tick()
    assert list(scene.causes().values()) == ["interface_gone"]


def test_strangers_get_no_line_with_an_address_unless_endpoints_are_told_in_full(rig):
    scene = Scene(rig, config=Config(metrics=Metrics(endpoint="off")))
    scene.tick(3)
    scene.down(1)
    (told,) = document(scene.exporter, private=False).values()
    assert told["cause"] == "silent"
    assert (told["evidence"], told["fix"], told["excluded"], told["uncertain"]) == ([], [], [], None)
    assert document(scene.exporter)[next(iter(scene.causes()))]["evidence"]


def test_of_thousands_of_peers_that_go_down_together_few_are_decided_at_one_tick(rig, monkeypatch):
    decided = []
    decide = seeking.decide
    monkeypatch.setattr(seeking, "decide", lambda known: decided.append(known.key) or decide(known))
    scene = Scene(rig, range(1, 2_001))
    scene.tick(2)
    scene.mute |= set(range(1, 2_001))
    for _ in range(12):
        decided.clear()
        scene.tick()
        assert len(decided) <= seeking.AT_FIRST + 2 * seeking.AT_ONCE
    assert of(scene.exporter, "wireguard_peer_state").count(1) >= 2_000
    assert all(len(asked) <= seeking.AT_ONCE for asked in scene.sources.asked)


# --- whose address it is, and what comes out of the tunnel ------------------------------------------------------------


@pytest.mark.parametrize(
    ("allowed", "named"), [(("10.0.0.1/32",), "owned_by_another"), (("10.9.9.9/32",), "not_allowed_here")]
)
def test_whoever_has_the_address_that_a_peer_should_have_is_found_without_a_look_at_the_host(rig, allowed, named):
    scene = Scene(rig, (1, 2), config=Config(peers=(PeerConfig(key(1), target="10.0.0.1"),)))
    scene.sources.answer = False
    scene.tick(3)
    scene.rows[1] = scene.rows[1]._replace(allowed_ips=())
    scene.rows[2] = scene.rows[2]._replace(allowed_ips=allowed)
    scene.tick(12)
    assert list(scene.causes().values()) == [named]


def test_what_came_out_of_the_interface_since_the_doubt_began_is_counted(rig, monkeypatch):
    looks = []
    monkeypatch.setattr(seeking.Causes, "follow", lambda _self, look, *_: looks.append(look) or [])
    exporter = rig.exporter(prober=FakeProber())
    rig.host.links = [link(rx_packets=100, tx_packets=50)]
    rig.tick(exporter, device(peer(1, rx_bytes=1000), backend=Backend.USERSPACE))
    begun = mark(("", "wg0", key(1)), looks[-1])
    rig.host.links = [link(rx_packets=122, tx_packets=80)]
    rig.tick(exporter, device(peer(1, rx_bytes=1000 + 22 * 128), backend=Backend.USERSPACE))
    known = facts(("", "wg0", key(1)), (PeerMeta("berlin", True, True), PeerHealth()), looks[-1], begun, Two())
    assert (known.left_packets, known.entered_packets, known.received_bytes) == (22, 30, 22 * 128)
    assert known.others == 0


def test_answers_from_before_this_host_refused_to_send_echoes_do_not_hide_why(rig):
    scene = Scene(rig)
    at = ("", "wg0", key(1))
    scene.prober.known = {at: Probed("10.0.0.1", STATS, None)}
    scene.tick(3)
    scene.prober.known = {at: Probed("10.0.0.1", STATS._replace(refused=SendError.NO_PERMISSION), None)}
    scene.tick(6)
    assert list(scene.states().values()) == ["degraded"]
    assert list(scene.causes().values()) == ["inner_filtered"]
