"""The status document: what it says, that `show` reads the same out of it, and that nothing hostile gets through."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from types import UnionType
from typing import get_args, get_type_hints

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.hosts import NOW, device, failed, gone, host, hostile_host, office, outcome, peer
from tests.probers import Unwatched
from tests.rows import SECOND, STATS, WALL, FakeHost, FakeTime
from tests.rows import device as read
from tests.rows import key as public_key
from tests.rows import link as read_link
from tests.rows import peer as read_peer
from wg_exporter.accounted import PeerPackets
from wg_exporter.config import Config, Expected, ExpectRule, Metrics
from wg_exporter.daemon.exporter import Exporter
from wg_exporter.daemon.pauses import PauseError, Pauses
from wg_exporter.events import Event
from wg_exporter.health.quality import FEWEST_PROBES, Window
from wg_exporter.health.states import PeerHealth, Reason, State
from wg_exporter.model import SOME_TIME
from wg_exporter.plan.planner import Aim
from wg_exporter.probed import FastFound, MtuReport, Probed, Verdict
from wg_exporter.status.document import VERSION, Document, encode, to_json
from wg_exporter.status.reading import DocumentError, decode
from wg_exporter.status.rows import Echoes, Teller

API = Path(__file__).parents[1] / "docs/api.md"
TELLER = Teller("1.2.3", "hub", "/etc/wg.yml", NOW - 3600)
REPORT = MtuReport(Verdict.FRAGMENTED_PATH, 1420, 1420, 1400, 0, 1480, 1340, None, "192.0.2.1", NOW - 60)
FINE = MtuReport(Verdict.OK, 1420, 1420, 1500, 0, 1480, 1420, None, "", NOW - 60)


def there_and_back(overview):
    return decode(encode(overview))


def peers_of(overview):
    return [row for found in overview.devices for row in found.peers]


# --- there and back -------------------------------------------------------------------------------------------------


def test_whoever_reads_it_sees_what_the_exporter_sees():
    down = PeerHealth(State.DOWN, Reason.ONE_WAY, changed_at=NOW - 70, evidence="probes unanswered", reason_at=NOW - 60)
    rows = (
        peer("berlin", key="A", age=41, keepalive=25, expected=True, rx=2**63, tx=1, endpoint="[2001:db8::1]:51820",
             ips=("10.8.0.2/32", "fd00::2/128"), aim=Aim("10.8.0.2", "in_subnet", "", wanted=True), health=down),
        peer(key="B", aim=Aim("", "none", "it is not expected up", wanted=False)),
        peer("lyon", key="C", age=3, expected=True),
    )  # fmt: skip
    found = device(*rows)
    probed = found.peers[2]._replace(
        echoes=Echoes(True, 100, 3, 1),
        mtu=REPORT,
        window=Window(0.02, 0.0123),
        health=PeerHealth(State.UP),
        packets=PeerPackets(5, 2**63),
    )
    found = found._replace(peers=(*found.peers[:2], probed))
    overview = host(found, failed("hung", name="wg7"), gone(rows[0]), outcomes=[outcome("busy")], problems=["a", "b"])
    seen = there_and_back(overview._replace(teller=TELLER, hidden=("wg9",)))
    assert (seen.wall, seen.problems, seen.hidden, seen.teller) == (NOW, ("a", "b"), ("wg9",), TELLER)
    assert [one.problem for one in seen.outcomes] == ["busy"]
    assert peers_of(seen)[:3] == list(found.peers)
    assert seen.devices[0].device == found.device
    assert seen.devices[0].link._replace(ifindex=3, kind="wireguard") == found.link
    assert seen.devices[1].failed.problem == "hung"
    assert seen.devices[2].gone == ("", "wg7")
    lost = seen.devices[2].peers[0]
    assert (lost.gone, lost.name, lost.health) == (True, "berlin", down)


def test_whoever_checks_the_host_learns_which_configuration_is_in_use_and_what_matches_nothing():
    teller = TELLER._replace(
        fingerprint="0123456789abcdef",
        reload_successful=False,
        storage_problem="there is no directory /x",
        track_files="/y/track",
        track_files_problem="Read-only file system",
    )
    overview = office()._replace(
        teller=teller,
        capabilities=(("net_admin", True), ("net_raw", False)),
        unmatched_entries=("expect[0] in the configuration: no peer",),
        doubles=("wg0: several daemons",),
        notes=("wg9.sock: a socket",),
    )
    seen = there_and_back(overview)
    for name in ("teller", "capabilities", "unmatched_entries", "doubles", "notes"):
        assert getattr(seen, name) == getattr(overview, name), name


@pytest.mark.parametrize(
    "fast",
    [
        FastFound("10.8.0.2", True),
        FastFound("10.8.0.2", False),
        FastFound("", False, "it has no endpoint"),
        FastFound("10.8.0.2", None, "its echoes have not said yet"),
        FastFound("", None, "no target; give it one"),
    ],
)
def test_how_a_peer_is_by_fast_echoes_is_read_as_it_was_told(fast):
    rows = peers_of(there_and_back(host(device(peer("berlin")._replace(fast=fast), peer("lyon", key="B")))))
    assert [row.fast for row in rows] == [fast, None]


def test_a_document_of_an_older_exporter_is_read_and_what_it_lacks_is_not_known():
    old = json.loads(encode(office()._replace(teller=TELLER)))
    for name in ("capabilities", "unmatched", "doubles", "notes"):
        del old[name]
    del old["exporter"]["config_fingerprint"], old["exporter"]["config_reload_success"]
    seen = decode(json.dumps(old).encode())
    assert seen.teller == TELLER
    assert (seen.teller.fingerprint, seen.teller.reload_successful) == ("", None)
    assert (seen.capabilities, seen.unmatched_entries, seen.doubles, seen.notes) == ((), (), (), ())


def test_the_office_is_drawn_the_same_from_a_document():
    from tests.test_show import text

    direct, told = text(office(), 200), text(there_and_back(office()), 200)
    # A daemon that failed has its problem only; the advice beside it is for those who look themselves.
    assert told == direct.replace("; compare with: wg show utun9", "")


def test_never_connected_and_not_known_when_are_told_apart():
    some_time = device(peer("anna", age=5))
    row = some_time.peers[0]
    some_time = some_time._replace(peers=(row._replace(peer=row.peer._replace(last_handshake_ns=SOME_TIME)),))
    found = peers_of(there_and_back(host(some_time, device(peer("bert"), name="wg1"))))
    assert [row.peer.last_handshake_ns for row in found] == [SOME_TIME, 0]


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "not a status document of version 1"),
        (b"{}", "not a status document of version 1"),
        (b"[" * 100_000, "not a status document of version 1"),
        (b"\xff", "not a status document of version 1"),
        (
            to_json(office()).replace('"version": 1', '"version": 2').encode(),
            "of version 2, while this program reads 1",
        ),
        (to_json(office()).replace('"idle"', '"asleep"').encode(), "not a status document of version 1"),
        (to_json(office()).replace("1759999959.0", "1e300").encode(), "a time in it is no time"),
    ],
)
def test_what_is_no_document_is_refused_in_one_line(data, said):
    if data[:1] == b"{" and len(data) > 2:
        assert data != to_json(office()).encode()
    with pytest.raises(DocumentError, match=said) as error:
        decode(data)
    assert "\n" not in str(error.value)


def test_keys_that_a_later_exporter_adds_are_ignored():
    later = json.loads(to_json(office())) | {"weather": "fine"}
    later["devices"][0]["peers"][0]["mood"] = 7
    assert decode(json.dumps(later).encode()) == there_and_back(office())


# --- hostile and huge -----------------------------------------------------------------------------------------------


@given(st.text(alphabet=st.characters(exclude_categories=[]), max_size=60))
@example("phone\ud83d")
@example("\x1b]0;owned\x07\u202e")
@settings(max_examples=60, deadline=None)
def test_whatever_a_peer_is_called_the_document_is_ascii_json_that_anyone_reads(bad):
    written = encode(hostile_host(bad)._replace(teller=TELLER._replace(host=bad, config_file=bad), unasked=bad))
    assert all(0x20 <= byte <= 0x7E for byte in written)
    msgspec.json.decode(written)  # stricter than Python's own: no lone surrogates
    assert peers_of(decode(written))[0].name == bad.encode("utf-8", "replace").decode()[:60] or not bad


def test_a_document_of_ten_thousand_peers_is_made_and_read_in_seconds():
    one = device(peer("phone", age=50, endpoint="198.51.100.23:51820", ips=tuple(f"10.0.{n}.0/24" for n in range(8))))
    row = one.peers[0]._replace(echoes=Echoes(True, 100, 3, 1), mtu=REPORT, window=Window(0.02, 0.0123))
    rows = tuple(row._replace(peer=row.peer._replace(public_key=f"{n:043d}=")) for n in range(10_000))
    begun = time.process_time()
    written = encode(host(one._replace(peers=rows)))
    assert len(peers_of(decode(written))) == 10_000
    assert time.process_time() - begun < 6
    assert len(written) < 20_000_000


def test_strangers_get_endpoints_as_the_metrics_have_them():
    overview = host(device(peer("a", endpoint="[2001:db8::1]:51820"), peer("b", key="B", endpoint="192.0.2.1:7")))

    def endpoints(wish):
        return [row.peer.endpoint for row in peers_of(decode(encode(overview, endpoints=wish)))]

    assert endpoints("full") == ["[2001:db8::1]:51820", "192.0.2.1:7"]
    assert endpoints("address") == ["2001:db8::1", "192.0.2.1"]
    assert endpoints("off") == ["", ""]


def test_where_the_path_shrinks_is_an_address_too():
    row = device(peer("a")).peers[0]._replace(mtu=REPORT)
    overview = host(device(peer("a"))._replace(peers=(row,)))
    assert b"192.0.2.1" in encode(overview)
    assert b"192.0.2.1" not in encode(overview, endpoints="off")


def test_no_key_of_the_document_could_hold_a_secret():
    keys = {name for part in parts(Document) for name in part.__struct_fields__}
    assert {name for name in keys if "key" in name} == {"public_key"}
    assert not {name for name in keys if re.search("private|preshared|psk|secret|token|password", name)}


# --- of an exporter -------------------------------------------------------------------------------------------------


class _Prober(Unwatched):
    """One that has sent what the test says."""

    def __init__(self):
        self.known, self.asked = {}, ()

    def set_peers(self, peers):
        self.asked = peers

    def results(self):
        return {("", "wg0"): dict(self.known)}

    def configure(self, config): ...
    def counters(self, rows): ...
    def scheduling_delay(self): ...
    def stop(self): ...
    def usages(self):
        return ()


@pytest.fixture
def exporter(request):
    fake, clock, prober = FakeHost(), FakeTime(), _Prober()
    config = getattr(request, "param", Config())
    fake.devices = [read(read_peer(1, last_handshake_ns=int((WALL - 10) * SECOND), endpoint="192.0.2.1:7",
                                   allowed_ips=("10.0.0.2/32",)))]  # fmt: skip
    fake.links = [read_link(addresses=("10.0.0.1/24",))]
    exporter = Exporter(config, Path("wg.yml"), fake.sources, clock.clock, prober=prober)
    exporter.host, exporter.time, exporter.prober = fake, clock, prober
    yield exporter
    exporter.stop()


@pytest.fixture
def probing(exporter):
    """One whose peer is probed."""
    exporter.prober.known[public_key(1)] = Probed("10.0.0.2", STATS, FINE)
    return exporter


def go(exporter, seconds, stats=None):
    """Tick every five seconds; `stats` gives what the prober counted after so many."""
    for second in range(0, seconds, 5):
        exporter.time.advance(5)
        if stats is not None:
            exporter.prober.known[public_key(1)] = Probed("10.0.0.2", stats(second + 5), FINE)
        exporter.tick()


def told(exporter):
    [found] = json.loads(exporter.document(private=True))["devices"]
    [row] = found["peers"]
    return row


def answering(second):
    return STATS._replace(sent=second, lost=0, late=0, rtt_sum=second * 0.02, rtt_last=0.02)


def test_who_says_it_is_in_the_document_with_the_configuration_it_has(exporter):
    found = json.loads(exporter.document(private=True))
    assert found["version"] == VERSION
    assert found["exporter"]["config_file"] == str(Path("wg.yml").absolute())
    assert found["exporter"]["started"] == WALL


def test_round_trip_and_loss_are_the_means_of_the_last_minutes(exporter):
    go(exporter, 60, answering)
    row = told(exporter)
    assert (row["state"], row["target"]) == ("up", "10.0.0.2")
    assert row["probe"]["loss_ratio"] == 0
    assert row["probe"]["round_trip_seconds"] == pytest.approx(0.02)
    assert (row["mtu"]["verdict"], row["mtu"]["recommended"]) == ("ok", 1420)


def test_round_trip_and_loss_of_a_peer_that_is_silent_or_down_are_not_told_as_if_they_were_of_now(exporter):
    go(exporter, 60, answering)
    since = exporter.time.clock.monotonic()

    def silent(second):
        return answering(60)._replace(up=False, sent=60 + second, lost=second, silent_since=since)

    go(exporter, 5, silent)
    row = told(exporter)
    assert (row["state"], row["probe"]["loss_ratio"], row["probe"]["round_trip_seconds"]) == ("up", None, None)
    go(exporter, 60, silent)
    row = told(exporter)
    assert (row["state"], row["probe"]["loss_ratio"], row["probe"]["round_trip_seconds"]) == ("down", None, None)
    assert row["probe"]["lost"] == 60


def test_too_few_probes_tell_no_loss(exporter):
    go(exporter, FEWEST_PROBES, answering)
    assert told(exporter)["probe"]["loss_ratio"] is None


def test_an_exporter_that_knows_no_state_yet_does_not_guess_one(exporter):
    exporter.host.devices = [read(read_peer(1))]
    exporter.tick()
    assert told(exporter)["state"] is None


def test_peers_of_a_device_that_can_not_be_read_any_more_are_told_with_their_state(exporter):
    from wg_exporter.model import Backend, FailedDevice, Failure

    go(exporter, 60, answering)
    exporter.host.devices = []
    exporter.host.failed = [FailedDevice("", "wg0", Backend.USERSPACE, "it hangs", Failure.UNANSWERED)]
    go(exporter, 10, answering)
    [found] = json.loads(exporter.document(private=True))["devices"]
    assert (found["read_success"], found["problem"], len(found["peers"])) == (False, "it hangs", 1)


@pytest.mark.parametrize("exporter", [Config(expect=(ExpectRule(name="berln", state=Expected.UP),))], indirect=True)
def test_what_matches_nothing_is_told_as_show_without_an_exporter_does(exporter):
    exporter.tick()
    [problem] = json.loads(exporter.document(private=True))["problems"]
    assert "berln" in problem


@pytest.mark.parametrize("exporter", [Config(metrics=Metrics(endpoint="off"))], indirect=True)
def test_the_setting_for_endpoints_holds_for_strangers_and_not_for_root(exporter):
    exporter.tick()
    assert b"192.0.2.1" in exporter.document(private=True)
    assert b"192.0.2.1" not in exporter.document(private=False)


# --- pauses ---------------------------------------------------------------------------------------------------------


def paused(exporter):
    exporter.tick()
    return [row.paused for row in exporter.prober.asked]


ASK = {"interface": "wg0", "public_key": public_key(1)}


def test_a_peer_is_paused_for_the_time_that_was_asked_for_and_no_longer(probing):
    assert paused(probing) == [False]
    assert probing.pause_probes({**ASK, "seconds": "60"}) == ""
    assert paused(probing) == [True]
    asked = probing.prober.asked
    probing.tick()
    assert probing.prober.asked is asked  # nothing new is told of it
    probing.time.advance(59)
    assert paused(probing) == [True]
    probing.time.advance(2)
    assert paused(probing) == [False]


def test_a_pause_can_be_ended(probing):
    probing.pause_probes({**ASK, "seconds": "60"})
    assert probing.pause_probes({**ASK, "seconds": "0"}) == ""
    assert paused(probing) == [False]


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({}, "name the peer"),
        ({"interface": "wg0", "seconds": "5"}, "name the peer"),
        (ASK, "seconds must be"),
        ({**ASK, "seconds": "601"}, "seconds must be a number from 0 to 600"),
        ({**ASK, "seconds": "nan"}, "seconds must be"),
        ({**ASK, "seconds": "-1"}, "seconds must be"),
        ({**ASK, "seconds": "1e999"}, "seconds must be"),
    ],
)
def test_a_request_that_makes_no_sense_pauses_nobody(probing, asked, said):
    assert said in probing.pause_probes(asked)
    assert paused(probing) == [False]


def test_a_pause_is_only_for_a_peer_that_is_probed(probing):
    for asked in ({**ASK, "interface": "wg1"}, {**ASK, "netns": "blue"}, {**ASK, "public_key": public_key(2)}):
        assert "is probed here" in probing.pause_probes({**asked, "seconds": "60"})
    assert paused(probing) == [False]
    # A + that was sent as it is arrives as a blank.
    assert probing.pause_probes({**ASK, "public_key": ASK["public_key"].replace("+", " "), "seconds": "60"}) == ""


def test_nobody_can_fill_the_memory_with_pauses():
    pauses, probed = Pauses(), {("", "wg0"): {str(number): None for number in range(1001)}}
    ask = {"interface": "wg0", "seconds": "60"}
    for number in range(1000):
        pauses.ask({**ask, "public_key": str(number)}, 0.0, probed)
    with pytest.raises(PauseError, match="1,000 peers are paused already"):
        pauses.ask({**ask, "public_key": "1000"}, 59.0, probed)
    pauses.ask({**ask, "public_key": "1000"}, 61.0, probed)


# --- the page about it ----------------------------------------------------------------------------------------------


def parts(struct):
    """The struct and all that are in it."""
    yield struct
    for hint in get_type_hints(struct).values():
        for inner in (hint, *get_args(hint)) if isinstance(hint, UnionType) or get_args(hint) else (hint,):
            if isinstance(inner, type) and issubclass(inner, msgspec.Struct):
                yield from parts(inner)


def test_every_key_is_on_its_page_and_no_other():
    text = API.read_text()
    for part in parts(Document):
        title = f"### {part.__name__}"
        section = text[text.index(title) :].partition("\n### ")[0].partition("\n## ")[0]
        assert re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE) == list(part.__struct_fields__), part


def test_every_key_of_an_event_is_on_its_page_and_no_other():
    section = API.read_text().partition("\n### Event\n")[2].partition("\n## ")[0]
    assert re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE) == [*Event.__struct_fields__, "text"]


def test_the_page_names_the_version():
    assert f"`version` is {VERSION}" in API.read_text()
