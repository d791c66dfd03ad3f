"""How probing is configured: what is taken, what is refused and in which words, and what the defaults are."""

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from wg_exporter.config import Config, ConfigError, MtuProbe, PeerConfig, ProbeSettings, Probing, parse
from wg_exporter.config.fields import duration, seconds
from wg_exporter.config.probe import RTT_BUCKETS

ONES = "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE="


def problems(text):
    """The lines that a user is told about `text`; empty if it is a good configuration."""
    try:
        parse(text, "f.yml")
    except ConfigError as error:
        return [str(problem) for problem in error.problems]
    return []


def probe(text):
    return parse(f"probe: {{{text}}}", "f.yml").probe


def peer(text):
    return parse(f"peers: [{{public_key: {ONES}, {text}}}]", "f.yml").peers[0]


# What is taken


def test_every_key_is_read_as_it_is_meant():
    text = """\
probe:
  enabled: true
  interval: 1m30s
  suspect_interval: 500ms
  timeout: 2s
  rtt_buckets: [0.001, 1e-2, 1]
  mtu: {inner_interval: 1h, outer_interval: 1d}
"""
    assert parse(text, "f.yml").probe == ProbeSettings(
        enabled=Probing.ON,
        interval=90.0,
        suspect_interval=0.5,
        timeout=2.0,
        rtt_buckets=(0.001, 0.01, 1.0),
        mtu=MtuProbe(inner_interval=3600.0, outer_interval=86400.0),
    )


def test_without_a_word_the_peers_that_should_be_up_are_probed():
    assert parse("probe:", "f.yml") == parse("probe: {mtu: }", "f.yml") == Config()
    plain = Config().probe
    assert plain.enabled is Probing.AUTO
    assert (plain.interval, plain.suspect_interval, plain.timeout) == (5.0, 1.0, 3.0)
    assert plain.rtt_buckets == RTT_BUCKETS
    assert (plain.mtu.inner_interval, plain.mtu.outer_interval) == (60.0, 300.0)


def test_who_is_probed_and_how_often_is_nothing_that_all_peers_share():
    one = ProbeSettings(enabled=Probing.ON, interval=7.0, timeout=2.0, mtu=MtuProbe(inner_interval=9.0))
    assert one.for_all() == ProbeSettings(timeout=2.0, mtu=MtuProbe(inner_interval=9.0))


def test_a_peer_may_be_probed_otherwise_than_all_others():
    assert peer("probe: false").probe is Probing.OFF
    assert peer("probe: auto, interval: 10s, target: 10.0.0.2") == PeerConfig(
        public_key=ONES, target="10.0.0.2", probe=Probing.AUTO, interval=10.0
    )
    assert (peer("name: a").probe, peer("name: a").interval) == (None, None)


def test_to_say_only_how_a_peer_is_probed_is_to_say_something():
    assert problems(f"peers: [{{public_key: {ONES}, probe: true}}]") == []
    assert problems(f"peers: [{{public_key: {ONES}, interval: 1s}}]") == []
    assert problems(f"peers: [{{public_key: {ONES}}}]") != []


@pytest.mark.parametrize("word", ["true", "True", "yes", "on", "'true'"])
def test_whatever_yaml_takes_for_true_probes_all_peers(word):
    assert probe(f"enabled: {word}").enabled is Probing.ON
    assert peer(f"probe: {word}").probe is Probing.ON


@pytest.mark.parametrize("word", ["false", "FALSE", "no", "off", '"false"'])
def test_whatever_yaml_takes_for_false_probes_none(word):
    assert probe(f"enabled: {word}").enabled is Probing.OFF
    assert peer(f"probe: {word}").probe is Probing.OFF


@pytest.mark.parametrize(
    ("text", "value"),
    [("100ms", 0.1), ("700ms", 0.7), ("5s", 5.0), ("'5s'", 5.0), ("1m30s", 90.0), ("1h", 3600.0), ("3600s", 3600.0)],
)
def test_durations_are_those_of_prometheus(text, value):
    assert probe(f"interval: {text}").interval == value


@given(st.integers(0, 10**10))
def test_a_duration_reads_back_as_it_was_shown(milliseconds):
    assert seconds(duration(milliseconds / 1000)) == milliseconds / 1000


def test_a_year_is_of_365_days_and_a_week_of_seven_as_in_prometheus():
    assert seconds("1y1w1d") == (365 + 7 + 1) * 86400.0
    assert seconds("1s1m") is seconds("s") is seconds("") is seconds("5 s") is seconds("-5s") is None


def test_an_interval_below_the_suspect_interval_of_the_default_is_fine():
    """The shorter of the two counts, and nobody wrote the other one."""
    assert problems("probe: {interval: 500ms}") == []


# What is refused, and in which words


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("interval: 0s", 'interval: must be at least 100ms ("0s"); write 100ms or more'),
        ("interval: 99ms", 'interval: must be at least 100ms ("99ms"); write 100ms or more'),
        ("interval: 2h", 'interval: must be at most 1h ("2h"); write 1h or less'),
        ("interval: 5", 'interval: is not a duration ("5"); write 5s'),
        ("interval: '5'", 'interval: is not a duration ("5"); write 5s'),
        ("interval: 500", 'interval: is not a duration ("500"); write 500ms or 500s'),
        ("mtu: {inner_interval: 100000}", 'mtu.inner_interval: is not a duration ("100000"); write 100000ms'),
        ("interval: 0", 'interval: is not a duration ("0"); write it like 5s, 500ms or 1m30s'),
        ("interval: 1.5s", 'interval: is not a duration ("1.5s"); write it like 5s, 500ms or 1m30s'),
        ("interval: 1:30", 'interval: is not a duration ("1:30"); write it like 5s, 500ms or 1m30s'),
        ("interval: -5s", 'interval: is not a duration ("-5s"); write it like 5s, 500ms or 1m30s'),
        ("interval: yes", 'interval: is not a duration ("yes"); write it like 5s, 500ms or 1m30s'),
        ("interval: 5 s", 'interval: is not a duration ("5 s"); write it like 5s, 500ms or 1m30s'),
        ("interval: [5s]", "interval: must be a duration, not a list"),
        ("interval: ", "interval: is empty; give it a value, or remove the key"),
        ("suspect_interval: 50ms", 'suspect_interval: must be at least 100ms ("50ms"); write 100ms or more'),
        (
            "suspect_interval: 10s",
            "suspect_interval: is more than probe.interval (10s against 5s); make it at most as long",
        ),
        ("timeout: 0s", 'timeout: must be at least 100ms ("0s"); write 100ms or more'),
        ("timeout: 1m", 'timeout: must be at most 10s ("1m"); write 10s or less'),
        ("rtt_buckets: []", "rtt_buckets: is empty; remove the key to use the default bounds"),
        (
            "rtt_buckets: [0.1, 0.2, 0.15]",
            "rtt_buckets[2]: is not above the bound before it (0.15 after 0.2); list them from the smallest up",
        ),
        (
            "rtt_buckets: [0.1, 0.10]",
            "rtt_buckets[1]: is not above the bound before it (0.1 after 0.1); list them from the smallest up",
        ),
        (
            "rtt_buckets: [0, 1]",
            'rtt_buckets[0]: is not between 0.00001 and 60 ("0.0"); bounds are in seconds: 0.001 is a millisecond',
        ),
        (
            "rtt_buckets: [5, 100]",
            'rtt_buckets[1]: is not between 0.00001 and 60 ("100.0"); bounds are in seconds: 0.001 is a millisecond',
        ),
        ("rtt_buckets: [.inf]", 'rtt_buckets[0]: must be a number (".inf")'),
        ("rtt_buckets: [5ms]", 'rtt_buckets[0]: must be a number ("5ms")'),
        ("rtt_buckets: 0.1", 'rtt_buckets: must be a list, not "0.1"; write it like [...], or as lines that begin'),
        ("enabled: maybe", 'enabled: must be one of auto, true, false ("maybe")'),
        ("enabled: 1", 'enabled: must be one of auto, true, false ("1")'),
        ("mtu: {inner_interval: 100ms}", 'mtu.inner_interval: must be at least 1s ("100ms"); write 1s or more'),
        ("mtu: {outer_interval: 2d}", 'mtu.outer_interval: must be at most 1d ("2d"); write 1d or less'),
        ("mtu: {inner: 5s}", "mtu.inner: is not a known key; the keys here are inner_interval, outer_interval"),
        ("intervall: 5s", "intervall: is not a known key; did you mean interval?"),
    ],
)
def test_a_mistake_is_one_line_with_key_path_value_and_fix(text, said):
    (line,) = problems(f"probe: {{{text}}}")
    assert line.startswith(f"f.yml:1: probe.{said}")
    assert len(line.splitlines()) == 1


def test_forty_bounds_are_taken_and_one_more_is_not():
    def text(count):
        return f"probe: {{rtt_buckets: {[n / 1000 for n in range(1, count + 1)]}}}"

    assert problems(text(40)) == []
    assert problems(text(41)) == [
        "f.yml:1: probe.rtt_buckets: has 41 bounds, and 40 are the most; leave some out",
    ]


def test_two_intervals_that_are_both_wrong_are_not_held_against_each_other():
    lines = problems("probe:\n  interval: 5\n  suspect_interval: 1m")
    assert [line.partition(" is ")[0] for line in lines] == ["f.yml:2: probe.interval:"]


def test_the_mistakes_of_a_peer_name_the_peer_by_its_place():
    lines = problems(f"peers:\n- {{public_key: {ONES}, probe: sometimes, interval: 10ms}}")
    assert lines == [
        'f.yml:2: peers[0].probe: must be one of auto, true, false ("sometimes")',
        'f.yml:2: peers[0].interval: must be at least 100ms ("10ms"); write 100ms or more',
    ]


@given(st.text(max_size=12) | st.from_regex(r"[0-9]{0,9}[a-z]{0,2}", fullmatch=True))
def test_any_text_is_a_duration_within_the_bounds_or_one_problem(text):
    told = problems(yaml.safe_dump({"probe": {"interval": text}}, allow_unicode=True))
    found = seconds(text)
    assert bool(told) == (found is None or not 0.1 <= found <= 3600)
