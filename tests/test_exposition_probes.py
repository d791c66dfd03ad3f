"""What is served of probed peers: which samples, the fast writer against them, and what a registry and promtool say."""

from __future__ import annotations

import math
import shutil
import subprocess
from collections import Counter

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.openmetrics import exposition as openmetrics_exposition
from prometheus_client.registry import Collector

from tests.rows import REPORT, WALL, device, device_view, flat, key, link, parsed, peer, probed, view
from wg_exporter.catalogue import METRICS
from wg_exporter.collector import collected
from wg_exporter.config import ProbeSettings
from wg_exporter.exposition.samples import metrics, samples
from wg_exporter.exposition.table import BLOCK
from wg_exporter.exposition.writer import Writer, everything, render
from wg_exporter.health.states import PeerHealth, Reason, State
from wg_exporter.metric import Scope
from wg_exporter.model import Peers
from wg_exporter.names.identity import PeerMeta
from wg_exporter.probed import MtuReport, Probed, ProbeStats, SendError, Verdict
from wg_exporter.quiet import Quiet, QuietNow

PROBING = (Scope.PROBE, Scope.MTU)
NAMES = [metric.name for metric in METRICS if metric.scope in PROBING]
HERE = ("", "wg0")
ANNA = PeerMeta("anna", True, True)
UP = PeerHealth(State.UP)


def slow(shown, included=everything, *, openmetrics=False):
    """The same exposition without anything kept: every sample rendered from scratch."""
    body = b"".join(render(samples(shown), included, openmetrics=openmetrics))
    return body + b"# EOF\n" if openmetrics else body


def written(shown, writer=None, *, openmetrics=False):
    return b"".join((writer or Writer()).write(metrics(shown), openmetrics=openmetrics))


def one(what, netns="", name="wg0", health=UP):
    """A view of one device with one peer, called anna, that is probed with this outcome."""
    here, at = device(peer(1), netns=netns, name=name), link(name, netns=netns)
    row = device_view(here, (ANNA,), at=at, health=(health,))
    return view(row, probes={(netns, name): {key(1): what}})


def found(shown, name):
    """Values of one series name by the labels that tell the samples of this one peer apart."""
    shared = {"interface", "public_key", "peer", "target", "netns"}
    return {
        ",".join(value for label, value in sorted(labels) if label not in shared): value
        for metric, labels, value in flat(samples(shown))
        if metric == name
    }


# --- what is said -----------------------------------------------------------------------------------------------------


def test_every_metric_of_a_probed_peer_has_its_own_field_as_its_value():
    shown = one(probed())
    values = {name: found(shown, f"wireguard_{name}") for name in (n.removeprefix("wireguard_") for n in NAMES)}
    assert values.pop("mtu_verdict") == {str(v): float(v is Verdict.FRAGMENTED_PATH) for v in Verdict}
    assert values.pop("probe_errors_total") == {str(r): 4.0 if r is SendError.NO_ROUTE else 0.0 for r in SendError}
    assert values.pop("mtu_path_bytes") == {"inner": 1420, "outer": 1400}
    assert values.pop("probe_rtt_seconds") == {}, "a histogram has no sample of its own name"
    assert values.pop("probe_fast_up") == {}, "fast echoes are apart from all this"
    assert values == {
        "probe_up": {"": 1},
        "probe_sent_total": {"": 22},
        "probe_lost_total": {"": 2},
        "probe_duplicates_total": {"": 3},
        "probe_late_total": {"": 1},
        "probe_extra_sent_total": {"": 6},
        "probe_extra_lost_total": {"": 5},
        "probe_jitter_seconds": {"": 0.00025},
        "probe_rtt_min_seconds": {"": 0.0005},
        "probe_last_rtt_seconds": {"": 0.003},
        "mtu_needed_bytes": {"": 1480},
        "mtu_recommended_bytes": {"": 1340},
        "mtu_remote_bytes": {"": 1280},
        "mtu_last_check_timestamp_seconds": {"": WALL},
    }


def test_the_histogram_counts_upwards_and_ends_with_all_that_was_answered():
    shown = one(probed())
    counts = list(found(shown, "wireguard_probe_rtt_seconds_bucket").items())
    assert counts[:5] == [("0.00025", 0), ("0.0005", 0), ("0.001", 5), ("0.002", 5), ("0.004", 19)]
    assert counts[-2:] == [("4.096", 19), ("+Inf", 20)]
    assert len(counts) == 16
    assert found(shown, "wireguard_probe_rtt_seconds_count") == {"": 20}
    assert found(shown, "wireguard_probe_rtt_seconds_sum") == {"": 0.75}
    [sent], [lost] = (found(shown, f"wireguard_probe_{name}_total").values() for name in ("sent", "lost"))
    assert sent - lost == 20


def test_bounds_of_ones_own_are_the_bounds_of_the_histogram():
    shown = one(probed(buckets=(3, 2, 1)))._replace(rtt_buckets=(0.01, 1.0))
    assert found(shown, "wireguard_probe_rtt_seconds_bucket") == {"0.01": 3, "1.0": 5, "+Inf": 6}
    assert written(shown) == slow(shown)


def test_round_trips_that_were_counted_by_other_bounds_are_not_served_under_these():
    """Between a reload and the first statistics by the new bounds."""
    shown = one(probed())._replace(rtt_buckets=(0.01, 1.0))
    for suffix in ("_bucket", "_sum", "_count"):
        assert found(shown, f"wireguard_probe_rtt_seconds{suffix}") == {}
    assert b"wireguard_probe_rtt_seconds" not in written(shown)
    assert b"wireguard_probe_sent_total" in written(shown)


def test_the_target_is_a_label_of_echoes_and_not_of_the_mtu():
    kinds = {"wireguard_probe_": {"target": "10.0.0.9"}, "wireguard_mtu_": {}}
    shown = flat(samples(one(probed("10.0.0.9"), netns="blue")))
    for prefix, more in kinds.items():
        rows = [(name, labels) for name, labels, _ in shown if name.startswith(prefix)]
        assert len(rows) > 5
        expected = {"interface": "wg0", "public_key": key(1), "peer": "anna", "netns": "blue"} | more
        for name, labels in rows:
            assert expected.items() <= dict(labels).items()
            assert len(labels) - len(expected) == name.endswith(("_bucket", "errors_total", "verdict", "path_bytes"))


def test_the_labels_of_each_sample_are_those_of_the_catalogue():
    shown = [sample for sample in samples(one(probed())) if sample.metric.scope in PROBING]
    assert {sample.metric.scope for sample in shown} == set(PROBING)
    for sample in shown:
        assert [name for name, _ in sample.labels if name != "le"] == list(sample.metric.labels)


def test_what_is_not_known_yet_is_absent_and_no_round_trips_are_a_known_zero():
    stats = ProbeStats(False, 0, 0, 0, 0, (), (0,) * 16, 0.0, None, None, None)
    shown = one(Probed("10.0.0.1", stats, None))
    for name in ("probe_jitter", "probe_rtt_min", "probe_last_rtt", "mtu_last_check_timestamp"):
        assert found(shown, f"wireguard_{name}_seconds") == {}
    for name in ("path", "needed", "recommended", "remote"):
        assert found(shown, f"wireguard_mtu_{name}_bytes") == {}
    assert set(found(shown, "wireguard_probe_rtt_seconds_bucket").values()) == {0}
    assert found(shown, "wireguard_probe_rtt_seconds_count") == {"": 0}
    assert found(shown, "wireguard_probe_sent_total") == found(shown, "wireguard_probe_up") == {"": 0}
    assert written(shown) == slow(shown)


@pytest.mark.parametrize("verdict", list(Verdict))
def test_exactly_one_verdict_is_one(verdict):
    values = found(one(probed(mtu=REPORT._replace(verdict=verdict))), "wireguard_mtu_verdict")
    assert list(values) == [str(other) for other in Verdict]
    assert [name for name, value in values.items() if value] == [str(verdict)]
    assert sum(values.values()) == 1


def test_before_the_first_look_the_verdict_is_unknown():
    assert found(one(probed(mtu=None)), "wireguard_mtu_verdict")["unknown"] == 1


@pytest.mark.parametrize("verdict", list(Verdict))
@pytest.mark.parametrize("reason", list(Reason))
def test_no_verdict_contradicts_that_the_peer_is_down(reason, verdict):
    down = PeerHealth(State.DOWN, reason)
    shown = one(probed(mtu=REPORT._replace(verdict=verdict)), health=down)
    [said] = [name for name, value in found(shown, "wireguard_mtu_verdict").items() if value]
    here = reason in {Reason.INTERFACE_GONE, Reason.INTERFACE_DOWN, Reason.UNREADABLE, Reason.MISSING, Reason.NOT_SENT}
    assert said == ("unknown" if here or verdict is Verdict.UNKNOWN else "unreachable")
    if verdict not in (Verdict.UNKNOWN, Verdict.UNREACHABLE):
        assert not found(shown, "wireguard_mtu_path_bytes")
        assert not found(shown, "wireguard_mtu_recommended_bytes")


def test_a_verdict_changes_with_the_state_alone():
    writer = Writer()
    before = written(one(probed()), writer)
    down = one(probed(), health=PeerHealth(State.DOWN, Reason.DATA_UNANSWERED))
    assert written(down, writer) == slow(down) != before
    assert b'verdict="unreachable"} 1' in written(down, writer)
    assert written(one(probed()), writer) == before


def test_one_layer_of_the_path_may_be_known_without_the_other():
    shown = one(probed(mtu=REPORT._replace(path_inner=None)))
    assert found(shown, "wireguard_mtu_path_bytes") == {"outer": 1400}
    assert written(shown) == slow(shown)


def test_a_peer_that_is_not_probed_any_more_or_not_there_any_more_has_no_series():
    row = device_view(device(peer(1), peer(2)), at=link())
    writer = Writer()
    both = view(row, probes={HERE: {key(1): probed(), key(2): probed("10.0.0.2")}})
    assert written(both, writer).count(b"wireguard_probe_up{") == 2
    for probes in ({HERE: {key(2): probed()}}, {HERE: {key(2): probed(), key(9): probed()}}):
        body = written(both._replace(probes=probes), writer)
        assert body.count(b"wireguard_probe_up{") == body.count(b"wireguard_mtu_needed_bytes{") == 1
        assert f'public_key="{key(2)}"'.encode() in body.partition(b"wireguard_probe_up{")[2].partition(b"\n")[0]
    for probes in ({}, {HERE: {}}, {("", "wg7"): {key(1): probed()}}, {HERE: {key(9): probed()}}):
        assert not any(metric.name.encode() in written(both._replace(probes=probes), writer) for metric in METRICS
                       if metric.scope in PROBING)  # fmt: skip


def test_the_worst_delay_is_there_only_while_somebody_probes():
    assert b"scheduling_delay" not in written(view())
    assert b"\nwireguard_exporter_probe_scheduling_delay_seconds 0.25\n" in written(view(scheduling_delay=0.25))
    assert b"\nwireguard_exporter_probe_scheduling_delay_seconds 0.0\n" in written(view(scheduling_delay=0.0))


def test_the_bounds_of_a_configuration_that_says_nothing_are_those_of_a_view_that_says_nothing():
    assert view().rtt_buckets == ProbeSettings().rtt_buckets


# --- the fast way and the slow one ------------------------------------------------------------------------------------

# Whatever can be in a name but a surrogate: the sources and the configuration let none in.
names = st.text(st.characters(exclude_categories=["Cs"]) | st.sampled_from('"\\\n{},= #%'), min_size=1, max_size=8)
counts = st.integers(0, 2**64 - 1)
times = st.floats(0, 60) | st.sampled_from([0.0, 1e-9, 1e-05])
maybe = st.none() | times
sizes = st.none() | st.integers(576, 65535)
all_stats = st.builds(
    ProbeStats,
    st.booleans(),
    counts,
    counts,
    counts,
    counts,
    st.lists(st.sampled_from(SendError), unique=True, max_size=3).map(lambda rs: tuple((r, 5) for r in sorted(rs))),
    st.lists(st.integers(0, 2**40), min_size=4, max_size=4).map(tuple) | st.just((1, 2)),
    times,
    maybe,
    maybe,
    maybe,
    st.none(),
    counts,
    counts,
)
reports = st.builds(
    MtuReport,
    st.sampled_from(Verdict),
    st.just(1420),
    sizes,
    sizes,
    st.just(0),
    sizes,
    sizes,
    sizes,
    st.just(""),
    st.just(0.0) | st.floats(1, 2e9),
)
changes = st.one_of(
    st.fixed_dictionaries({"stats": all_stats}),
    st.fixed_dictionaries({"mtu": reports | st.none()}),
    st.fixed_dictionaries({"target": st.sampled_from(["10.0.0.1", "fd00::9"])}),
    st.just({}),  # an equal row, but another object
)
devices = st.integers(0, 1)
places = st.integers(0, 3)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("probe"), devices, places, changes),
        st.tuples(st.just("leave alone"), devices, places, st.none()),
        st.tuples(st.just("touch"), devices, places, changes),
        st.tuples(st.just("call"), devices, places, names),
        st.tuples(st.just("go"), devices, places, st.none()),
        st.tuples(st.just("come"), devices, places, st.none()),
        st.tuples(st.just("turn"), devices, places, st.none()),
        st.tuples(st.just("bounds"), devices, places, st.sampled_from([(0.1, 0.2, 0.3), (0.5, 1.0, 2.0), (1e-05,)])),
        st.tuples(st.just("nothing"), devices, places, st.none()),
    ),
    min_size=1,
    max_size=20,
)


class World:
    """Two devices of up to four peers, some of whom are probed, changed step by step."""

    def __init__(self):
        self.there = [[0, 1, 2], [0, 1]]
        self.names = [["a", "b", "c", "d"], ["a", "a", "a", "a"]]
        first = probed(buckets=(1, 2, 3, 4))
        self.probes = [{0: first, 2: first}, {1: first}]
        self.bounds = (0.1, 0.2, 0.3)
        self.peers = [Peers(), Peers()]

    def step(self, what, where, at, value):
        there, probes = self.there[where], self.probes[where]
        if what == "probe":
            probes[at] = probes.get(at, probed(buckets=(0, 0, 0, 0)))._replace(**value)
        elif what == "touch" and at in probes:
            probes[at] = probes[at]._replace(**value)
        elif what == "leave alone":
            probes.pop(at, None)
        elif what == "call":
            self.names[where][at] = value
        elif what == "go" and at in there:
            there.remove(at)
        elif what == "come" and at not in there:
            there.insert(0, at)
        elif what == "turn":
            there.reverse()
            self.probes[where] = dict(reversed(probes.items()))
        elif what == "bounds":
            self.bounds = value

    def view(self):
        rows, probes = [], {}
        for index, (netns, name) in enumerate((HERE, ("blue", "wg%"))):
            there = self.there[index]
            if there:
                self.peers[index] = Peers.of([peer(n) for n in there], self.peers[index])
                metas = tuple(PeerMeta(self.names[index][n], True, True) for n in there)
                read = device(netns=netns, name=name, peers=self.peers[index])
                rows.append(device_view(read, metas, at=link(name, netns=netns)))
            probes[netns, name] = {key(n): row for n, row in self.probes[index].items()}
        return view(*rows, probes=probes, rtt_buckets=self.bounds)


@settings(max_examples=150, deadline=None)
@given(steps)
@example([("call", 0, 0, '%s"\\\n'), ("touch", 0, 0, {"mtu": None}), ("touch", 0, 2, {"mtu": REPORT})])
@example([("bounds", 0, 0, (1e-05,)), ("nothing", 0, 0, None), ("bounds", 0, 0, (0.5, 1.0, 2.0))])
def test_the_writer_says_what_the_samples_say_whatever_changes_in_whatever_order(sequence):
    world, writer = World(), Writer()
    written(world.view(), writer)
    for index, step in enumerate(sequence):
        world.step(*step)
        openmetrics = bool(index % 2)
        assert written(world.view(), writer, openmetrics=openmetrics) == slow(world.view(), openmetrics=openmetrics)
    for openmetrics in (False, True):
        read = parsed(writer.write(metrics(world.view()), openmetrics=openmetrics), openmetrics=openmetrics)
        assert len(set(read)) == len(read)
        assert Counter(read) == Counter(flat(samples(world.view())))


@pytest.mark.parametrize("field", [f for f in ProbeStats._fields if f not in {"silent_since", "late_sum", "refused"}])
def test_whatever_changes_alone_of_the_echoes_changes_in_the_body(field):
    values = {"up": False, "errors": (), "buckets": (9, *(0,) * 15)}
    writer, changed = Writer(), one(probed(**{field: values.get(field, 7)}))
    before = written(one(probed()), writer)
    assert written(changed, writer) == slow(changed) != before
    assert written(one(probed()), writer) == before


@pytest.mark.parametrize(
    "field", [f for f in MtuReport._fields if f not in ("interface_mtu", "path_slack", "shrinks_at")]
)
def test_whatever_changes_alone_of_the_mtu_changes_in_the_body(field):
    writer = Writer()
    changed = one(probed(mtu=REPORT._replace(**{field: Verdict.OK if field == "verdict" else 777})))
    before = written(one(probed()), writer)
    assert written(changed, writer) == slow(changed) != before
    assert written(one(probed()), writer) == before


def test_a_value_that_becomes_unknown_goes_and_comes_back_where_it_was():
    writer = Writer()
    for known in (True, False, False, True):
        shown = one(probed() if known else probed(jitter=None, mtu=REPORT._replace(path_inner=None, remote=None)))
        assert written(shown, writer) == slow(shown)


@pytest.mark.parametrize("metric", [m for m in METRICS if m.scope in PROBING], ids=lambda metric: metric.name)
def test_a_family_that_is_left_out_leaves_the_others_as_they_are(metric):
    def included(name):
        return name != metric.name

    writer = Writer(included)
    for shown in (one(probed()), one(probed(sent=40, lost=20)), one(probed("10.0.0.7", jitter=None))):
        assert written(shown, writer) == slow(shown, included)
        assert metric.name.encode() + b"{" not in written(shown, writer)


def test_a_peer_that_changes_in_one_of_several_blocks_changes_in_the_body():
    """Of a histogram, a block has room for far fewer peers than of a gauge."""
    number = 2 * BLOCK // 18 + 3
    rows = {key(n): probed(f"10.0.{n >> 8}.{n & 255}") for n in range(number)}
    read = device_view(device(*(peer(n) for n in range(number))))
    writer = Writer(lambda name: name == "wireguard_probe_rtt_seconds")
    for n in (0, BLOCK // 18 - 1, BLOCK // 18, number - 1):
        rows[key(n)] = probed(rows[key(n)].target, rtt_sum=100.0 + n)
        lines = written(view(read, probes={HERE: dict(rows)}), writer).decode().splitlines()
        sums = [float(line.rpartition(" ")[2]) for line in lines if "_sum{" in line]
        assert sums == [row.stats.rtt_sum for row in rows.values()]
        assert len(lines) == 2 + 18 * number


def test_what_did_not_move_is_not_rendered_again():
    asked = []

    class Counted(int):
        def __repr__(self):
            asked.append(self)
            return int.__repr__(self)

    rows = {key(n): probed(f"10.0.0.{n}", sent=Counted(1000 + n)) for n in range(50)}
    read = device_view(device(*(peer(n) for n in range(50))))
    writer = Writer()
    for openmetrics in (False, True, False):
        written(view(read, probes={HERE: dict(rows)}), writer, openmetrics=openmetrics)
    assert len(asked) == 50
    rows[key(7)] = probed("10.0.0.7", sent=Counted(9999))
    assert b"} 9999\n" in written(view(read, probes={HERE: dict(rows)}), writer)
    assert len(asked) == 51


def test_the_probes_of_a_device_of_which_nothing_changed_are_not_looked_at():
    """Ten thousand of them would cost as much as all that moved."""
    looks = []

    class Looked(dict):
        def __iter__(self):
            looks.append(self)
            return super().__iter__()

        def values(self):
            looks.append(self)
            return super().values()

    read = device_view(device(*(peer(n) for n in range(3))))
    known = Looked({key(n): probed(f"10.0.0.{n}") for n in range(3)})
    writer = Writer()
    shown = view(read, probes={HERE: known})
    first = written(shown, writer)
    assert looks
    looks.clear()
    assert written(shown, writer) == first
    assert looks == []
    known = Looked(known)
    assert written(view(read, probes={HERE: known}), writer) == first
    assert looks


# --- what others make of it -------------------------------------------------------------------------------------------

BUSY = view(
    device_view(device(peer(1), peer(2)), at=link()),
    device_view(device(peer(1), netns="blue"), (PeerMeta('Büro "Nord" \\ 東京', True, True),), at=link(netns="blue")),
    probes={HERE: {key(1): probed(), key(2): probed("fd00::2", None)}, ("blue", "wg0"): {key(1): probed()}},
    scheduling_delay=0.002,
    quiet=QuietNow(
        [Quiet("", "wg0", "", "", WALL, WALL + 60, ""), Quiet("blue", "wg0", key(1), "1", WALL, WALL + 60, "")]
    ),
)


@pytest.mark.prometheus
def test_promtool_has_nothing_to_say_about_our_page():
    if not shutil.which("promtool"):
        pytest.skip("promtool: no such command; apt-get install prometheus")
    done = subprocess.run(
        ["promtool", "check", "metrics"], input=written(BUSY), capture_output=True, timeout=30, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_the_histogram_is_one_to_the_strict_parser():
    """It wants rising bounds in their canonical form, counts that never fall, and a count that is the last bucket."""
    body = written(BUSY, openmetrics=True).decode()
    assert "# TYPE wireguard_probe_rtt_seconds histogram\n# UNIT wireguard_probe_rtt_seconds seconds\n" in body
    buckets = [(labels, value) for name, labels, value in parsed([body.encode()], openmetrics=True)
               if name == "wireguard_probe_rtt_seconds_bucket"]  # fmt: skip
    assert {float(dict(labels)["le"]) for labels, _ in buckets} == {*ProbeSettings().rtt_buckets, math.inf}


def test_a_registry_gives_the_same_samples_of_probed_peers():
    class Probing(Collector):
        def collect(self):
            return collected(samples(BUSY))

    registry = CollectorRegistry()
    registry.register(Probing())
    for generate, om in ((generate_latest, False), (openmetrics_exposition.generate_latest, True)):
        theirs, ours = generate(registry), written(BUSY, openmetrics=om)
        assert Counter(parsed([theirs], openmetrics=om)) == Counter(parsed([ours], openmetrics=om))
        assert types(theirs) == types(ours)


def types(text):
    return {line for line in text.decode().splitlines() if line.startswith("# TYPE")}
