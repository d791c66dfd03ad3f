"""Configuration: what is taken, what is refused and in which words, and that nothing else ever happens.

`data/config/wrong.yml` is the list of mistakes that people make; each line says in its own comment what it is told.
"""

import base64
import contextlib
import re
import subprocess
import sys
import time
from ipaddress import IPv4Network, ip_network
from pathlib import Path
from typing import Annotated

import msgspec
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from wg_exporter import config as config_module
from wg_exporter.config import (
    Config,
    ConfigError,
    EndpointMode,
    Expected,
    ExpectRule,
    Interfaces,
    Metrics,
    NamespaceConfig,
    PeerConfig,
    load,
    parse,
)
from wg_exporter.config.text import LOADER, MAX_BYTES, MAX_NODES, YamlProblem, compose
from wg_exporter.config.tree import MAX_PROBLEMS, Document

ROOT = Path(__file__).resolve().parent.parent
DATA = Path(__file__).parent / "data" / "config"
METRICS = ("wireguard_peer_info", "wireguard_peer_allowed_ips", "wireguard_interface_info")
KEY = base64.b64encode(bytes(range(100, 132))).decode()
ONES = "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE="


def problems(text, metric_names=()):
    """The lines that a user is told about `text`; empty if it is a good configuration."""
    caught = None
    try:
        parse(text, "f.yml", metric_names)
    except ConfigError as error:
        caught = error
    if caught is None:
        return []
    lines = [str(problem) for problem in caught.problems]
    assert lines
    assert str(caught).splitlines() == lines
    return lines


# What is taken


@pytest.mark.parametrize("text", ["", "\n", "# nothing\n", "---\n", "{}", "~", "\ufeff", "\ufeffpeers: []"])
def test_a_file_that_says_nothing_is_the_same_as_no_file(text):
    assert parse(text, "f.yml") == Config()


def test_every_key_is_read_as_it_is_meant():
    assert load(DATA / "full.yml", METRICS) == Config(
        interfaces=Interfaces(include=("wg*", "awg[0-9]"), exclude=("wg-test?",), expect=("wg0", "blue/wg0")),
        namespaces=(
            NamespaceConfig(name="blue"),
            NamespaceConfig(name="green", netns="other"),
            NamespaceConfig(name="app", file="/proc/1234/ns/net"),
            NamespaceConfig(name="db", pid=4321),
        ),
        names=("/etc/wireguard/*.conf",),
        peers=(
            PeerConfig(public_key=ONES, interface="wg0", name="Berlin", target="10.0.0.2"),
            PeerConfig(public_key=ONES, name="no"),
            PeerConfig(
                public_key="AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI=",
                name='Zürich / Büro "2" 👩\u200d💻',
                target="fd00::2",
            ),
        ),
        expect=(
            ExpectRule(state=Expected.ANY, interface="wg*", name="phone-*", allowed_ip="10.1.0.0/16", public_key=ONES),
            ExpectRule(state=Expected.UP, allowed_ip="10.9.8.7/32"),
            ExpectRule(state=Expected.AUTO),
        ),
        metrics=Metrics(exclude=("wireguard_peer_allowed_ips*",), endpoint=EndpointMode.OFF),
    )


def test_a_section_whose_entries_are_all_commented_out_keeps_its_default():
    text = "interfaces:\nnamespaces:\nnames:\npeers:\n#  - {}\nexpect:\nmetrics:\n  exclude:\n"
    assert parse(text, "f.yml") == Config()


def test_no_names_at_all_differs_from_the_default_names():
    assert parse("names: []", "f.yml").names == ()
    assert parse("", "f.yml").names is None


def test_the_word_off_needs_no_quotes_although_yaml_reads_it_as_false():
    assert parse("metrics: {endpoint: off}", "f.yml").metrics.endpoint is EndpointMode.OFF
    assert parse("metrics: {endpoint: 'off'}", "f.yml").metrics.endpoint is EndpointMode.OFF
    assert problems("metrics: {endpoint: false}") == [
        'f.yml:1: metrics.endpoint: must be one of full, address, off ("false")'
    ]


@pytest.mark.parametrize(
    ("text", "fix"),
    [
        ("expect: [{state: Up}]", "did you mean up?"),
        ("health: {loss: 5%}", "write 0.05"),
        ("health: {loss: '2.5 %'}", "write 0.025"),
    ],
)
def test_a_value_in_another_form_is_answered_with_the_right_one(text, fix):
    [problem] = problems(text)
    assert problem.endswith(f"; {fix}")


def test_an_alias_stands_for_what_it_names():
    text = f"peers: [&a {{public_key: {ONES}, name: &n Berlin}}, {{public_key: {KEY}, name: *n}}]"
    assert [peer.name for peer in parse(text, "f.yml").peers] == ["Berlin", "Berlin"]


def test_exclude_goes_before_include_and_case_matters():
    interfaces = Interfaces(include=("wg*", "tun0"), exclude=("wg-test*",))
    wanted = [name for name in ("wg0", "wg-test1", "tun0", "tun1", "WG0") if interfaces.wanted(name)]
    assert wanted == ["wg0", "tun0"]


def test_expected_interfaces_are_told_apart_by_namespace():
    assert Interfaces(expect=("wg0", "blue/wg0")).expected == (("", "wg0"), ("blue", "wg0"))


def test_a_namespace_is_found_by_its_own_name_another_name_a_path_or_a_process():
    config = load(DATA / "full.yml")
    assert config.entries() == {
        "": "",
        "blue": "ip netns exec blue ",
        "green": "ip netns exec other ",
        "app": "nsenter --net=/proc/1234/ns/net ",
        "db": "nsenter --net=/proc/4321/ns/net ",
    }
    assert [namespace.path for namespace in config.namespaces] == [
        "/run/netns/blue",
        "/run/netns/other",
        "/proc/1234/ns/net",
        "/proc/4321/ns/net",
    ]


def test_the_network_of_a_rule_is_parsed_once():
    rule = ExpectRule(state=Expected.UP, allowed_ip="10.1.0.0/16")
    assert rule.network == IPv4Network("10.1.0.0/16")
    assert rule.network is rule.network
    assert ExpectRule(state=Expected.UP).network is None


def test_metrics_are_left_out_by_pattern():
    metrics = Metrics(exclude=("wireguard_peer_*_total", "wireguard_peer_info"))
    assert metrics.excluded("wireguard_peer_receive_bytes_total")
    assert metrics.excluded("wireguard_peer_info")
    assert not metrics.excluded("wireguard_peer_allowed_ips")


def test_a_configuration_can_not_be_changed_after_it_was_read():
    with pytest.raises(AttributeError):
        Config().names = ()
    with pytest.raises(AttributeError):
        ExpectRule(state=Expected.UP).allowed_ip = "10.0.0.0/8"


# What is refused, and in which words


@pytest.mark.parametrize("mark", [*"\u061c\u200e\u200f\u202a\u202e\u2066\u2069\u206a\u206f"], ids=ascii)
@pytest.mark.parametrize("written", ["{}", '"{}"'])
def test_a_name_may_not_hold_a_mark_of_direction_and_it_is_said_which_and_where(mark, written):
    text = f"peers:\n  - public_key: {KEY}\n    name: {written.format(f'ber{mark}lin')}\n"
    (line,) = problems(text)
    said = f"holds U+{ord(mark):04X}, a mark of the direction of writing, as character 4"
    assert line.startswith(f'f.yml:3: peers[0].name: {said} ("ber\\u{ord(mark):04x}lin"); remove it')


def test_such_a_mark_is_found_in_patterns_and_where_it_is_written_as_an_escape():
    (line,) = problems('expect: [{name: "\\u200fphone-*", state: any}]')
    assert line.startswith("f.yml:1: expect[0].name: holds U+200F, a mark of the direction of writing, as character 1")


@pytest.mark.parametrize("name", ["م\u200cن", "क्\u200dष", "Zürich", "日本"])
def test_a_name_in_any_language_may_have_what_its_letters_need(name):
    assert problems(f"peers: [{{public_key: {KEY}, name: {name}}}]") == []


def test_every_mistake_of_a_file_is_reported_at_its_line_and_none_hides_another():
    text = (DATA / "wrong.yml").read_text()
    expected = [
        f"f.yml:{number}: {beginning}"
        for number, line in enumerate(text.splitlines(), 1)
        if number > 1 and " # => " in line
        for beginning in line.partition(" # => ")[2].split(" | ")
    ]
    found = problems(text, METRICS)
    assert len(expected) > 50
    assert [line[: len(start)] for line, start in zip(found, expected, strict=True)] == expected


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("- a", "f.yml:1: must be keys and values, not a list"),
        ("a", 'f.yml:1: must be keys and values, not "a"'),
        ("peers: {a: b}", "f.yml:1: peers: must be a list, not keys and values"),
        ("peers: [~]", "f.yml:1: peers[0]: must be keys and values, not nothing"),
        ("? [a]\n: b", "f.yml:1: a key must be a word, not a list"),
        ("interfaces: {include: []}", "f.yml:1: interfaces.include: is empty, so nothing is served"),
        ("interfaces: {expect: [blue/wg0]}", "f.yml:1: interfaces.expect[0]: no entry of namespaces has this name"),
        (
            "interfaces: {expect: [bleu/wg0]}\nnamespaces: [{name: blue}]",
            'f.yml:1: interfaces.expect[0]: no entry of namespaces has this name ("bleu"); did you mean "blue"?',
        ),
        (
            "interfaces: {exclude: ['wg*'], expect: [tun0, wg0]}",
            'f.yml:1: interfaces.expect[1]: is expected but not served ("wg0")',
        ),
        ("names: [/etc/wg.conf]\nnames: []", "f.yml:2: names: is given twice, first in line 1"),
        ("peers: !!python/object/apply:os.system [id]", "f.yml:1: peers: must be a list, not a value with a tag"),
        ("expect: !!set {a}", "f.yml:1: expect: must be a list, not a value with a tag"),
    ],
)
def test_a_mistake_is_told_in_the_words_of_the_file(text, said):
    (line,) = problems(text)
    assert line.startswith(said)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("interfaces: [", "f.yml:"),
        ("interfaces:\n\texclude: []", "f.yml:2:1: is not valid YAML: "),
        ("a: *missing", "f.yml:1:4: is not valid YAML: "),
        ("a: 'open", "f.yml:1:"),
        ("a: 1\n---\nb: 2", "f.yml:2: a second document begins here"),
        ("a: \x07", "f.yml:1: holds the character U+0007"),
        ("peers:\n  - \ud800", "f.yml:2: holds the character U+D800"),
        ('a: "\\UFFFFFFFF"', "f.yml:1:"),
        ("%YAML 1." + "9" * 5000 + "\n--- a", "f.yml:1:"),
        ("a: &a [*a]", "f.yml:1: a: is not a known key"),
    ],
)
@pytest.mark.parametrize("loader", [LOADER, yaml.SafeLoader])
def test_broken_yaml_is_one_line_with_line_and_column(text, said, loader):
    document = Document("f.yml", loader)
    document.read(text, Config)
    (problem,) = document.problems
    assert str(problem).startswith(said)
    assert len(str(problem).splitlines()) == 1


def test_a_tab_in_the_indentation_is_named_as_the_reason():
    (line,) = problems("interfaces:\n\texclude: []")
    assert line.endswith("indent with spaces, not with tabs")


def test_a_namespace_with_a_mistake_in_its_name_is_not_called_missing_as_well():
    (line,) = problems("interfaces: {expect: [blue/wg0]}\nnamespaces: [{name: ' blue'}]")
    assert line.startswith("f.yml:2: namespaces[0].name: begins or ends with a space")


def test_a_rule_that_needs_no_condition_is_not_blamed_when_it_is_the_last():
    assert problems("expect: [{interface: wg0, state: up}, {state: any}]") == []


def test_one_peer_may_have_two_names_on_two_interfaces():
    both = "".join(f"\n- {{public_key: {ONES}, interface: wg{i}, name: n{i}}}" for i in range(2))
    assert problems("peers:" + both) == []


def test_patterns_for_metrics_are_checked_only_when_the_names_are_known():
    text = "metrics: {exclude: [wireguard_nothing]}"
    assert problems(text) == []
    assert len(problems(text, METRICS)) == 1


def test_more_problems_than_anyone_reads_end_in_a_line_that_says_so():
    lines = problems("peers:\n" + "- {}\n" * 1000)
    assert len(lines) == MAX_PROBLEMS + 1
    assert lines[-1] == f"f.yml: more than {MAX_PROBLEMS} problems, the rest is not listed"


def test_numbers_and_truth_are_as_strict_as_strings():
    class Later(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
        wait: Annotated[float, msgspec.Meta(ge=0.5, le=60)] = 1.0
        on: bool = False

    def read(text):
        document = Document("f.yml")
        return document.read(text, Later), [problem.what for problem in document.problems]

    assert read("{wait: 2, 'on': true}") == (Later(wait=2.0, on=True), [])
    assert read("wait: 1e1")[0] == Later(wait=10.0)
    assert read("wait: 0.1")[1] == ["must be at least 0.5 (0.1)"]
    for wrong in ("wait: '2'", "wait: 1:30", "wait: .inf", "wait: .nan", "wait: yes", "on: 'true'", "on: 1"):
        assert len(read(wrong)[1]) == 1, wrong


# Secrets


@pytest.mark.parametrize(
    "text",
    [
        "{key}: 1",
        "private_key: {key}",
        "*{key}",
        "a: *{key}",
        "!{key} a",
        "names: !{key} [a]",
        "names: {key}",
        "names: ['{key}']",
        "names: ['/etc/{key}']",
        "interfaces: {{include: ['{key}'], expect: ['{key}', '{key}/wg0']}}",
        "namespaces: [{{name: '{key}'}}, {{name: a, netns: '{key}'}}, {{name: b, path: '{key}'}}]",
        "namespaces: [{{name: a, pid: '{key}'}}, '{key}', {{'{key}': 1}}]",
        "peers: [{{public_key: 'x{key}'}}, {{public_key: '{key}x'}}, {{public_key: [{key}]}}]",
        "peers: [{{public_key: {ones}, interface: '{key}', name: '{key}', target: '{key}'}}]",
        "peers: [{{public_key: {ones}, name: 'PrivateKey = {key}'}}]",
        "peers: [{{public_key: {ones}, name: a, name: b, private_key: '{key}', private_key: '{key}'}}]",
        "expect: [{{state: '{key}', name: '{key}', interface: '{key}', allowed_ip: '{key}'}}]",
        "metrics: {{exclude: ['{key}'], endpoint: '{key}'}}",
        "names:\n - {key}\n\t- [",
    ],
)
@pytest.mark.parametrize("loader", [LOADER, yaml.SafeLoader])
@pytest.mark.parametrize("secret", [KEY, base64.b64decode(KEY).hex(), KEY[:40]], ids=["base64", "hex", "cut off"])
def test_a_private_key_in_the_wrong_place_is_never_shown(text, loader, secret):
    document = Document("f.yml", loader)
    document.read(text.format(key=secret, ones=ONES), Config)
    told = "\n".join(map(str, document.problems))
    if secret == KEY:
        assert told
    assert not any(secret[i : i + 8] in told for i in range(len(secret) - 8))


def test_a_private_key_in_the_wrong_place_is_refused_so_that_no_repr_can_show_it():
    for field in ("interface", "name", "target"):
        assert problems(f"peers: [{{public_key: {ONES}, name: a, {field}: '{KEY}'}}]".replace("name: a, name", "name"))
    assert problems(f"peers: [{{public_key: {ONES}, name: '{KEY[:43]}'}}]")
    assert problems(f"names: ['/etc/{KEY}']")
    assert problems(f"expect: [{{name: '*{KEY}*', state: up}}]")


def test_no_exception_carries_the_text_of_the_file_as_its_context(tmp_path):
    path = tmp_path / "f.yml"
    for content in (f"a: [{KEY}".encode(), KEY.encode() + b"\xff"):
        path.write_bytes(content)
        with pytest.raises(ConfigError) as caught:
            load(path)
        assert caught.value.__context__ is None
        assert caught.value.__cause__ is None


# Files


def test_a_file_that_is_not_there_is_one_line(tmp_path):
    with pytest.raises(ConfigError) as caught:
        load(tmp_path / "none.yml")
    assert str(caught.value).startswith(f"{tmp_path}/none.yml: can't be read: No such file or directory; ")


def test_a_directory_or_an_impossible_path_is_one_line(tmp_path):
    for path in (tmp_path, Path("/nowhere\0\n")):
        with pytest.raises(ConfigError) as caught:
            load(path)
        assert len(str(caught.value).splitlines()) == 1


def test_a_file_whose_reading_fails_half_way_is_one_line():
    with pytest.raises(ConfigError, match=r"^/proc/self/mem: can't be read: Input/output error; "):
        load(Path("/proc/self/mem"))


def test_a_file_that_is_not_text_is_one_line(tmp_path):
    path = tmp_path / "f.yml"
    path.write_bytes(b"names: []\n\xff\xfe")
    with pytest.raises(ConfigError, match=r"f\.yml: is not UTF-8 text \(line 2\)"):
        load(path)


def test_a_file_without_end_is_refused_without_reading_it():
    with pytest.raises(ConfigError, match=r"/dev/zero: can.t be read: not a regular file"):
        load(Path("/dev/zero"))


def test_windows_line_ends_and_a_byte_order_mark_are_fine(tmp_path):
    path = tmp_path / "f.yml"
    path.write_bytes(b"\xef\xbb\xbfnames:\r\n- /a\r\n")
    assert load(path).names == ("/a",)


# Hostile text


BOMBS = {
    "deep brackets": "[" * (MAX_BYTES // 2),
    "deep keys": "{a: " * (MAX_BYTES // 5),
    "deep lines": "\n".join(" " * i + "a:" for i in range(1000)),
    "many values": "[" + "a," * (MAX_BYTES // 3) + "]",
    "many keys": "{" + "".join(f"k{i}: 1," for i in range(70_000)) + "}",
    "many misspelt keys": "{" + "".join(f"interfaces_namespaces{i}: 1," for i in range(35_000)) + "}",
    "many bad entries": "peers: [" + "{a}," * (MAX_BYTES // 12) + "]",
    "aliases of aliases": "a0: &a0 [x]\n" + "".join(f"a{i}: &a{i} [{f'*a{i - 1},' * 9}]\n" for i in range(1, 40)),
    "aliases of a long entry": "peers: [&p {"
    + "".join(f"k{i}: 1," for i in range(9_000))
    + "},"
    + "*p," * 90_000
    + "]",
    "a long key": "a" * (MAX_BYTES - 10) + ": 1",
    "a long unknown key": "? " + "interfaces" * 100_000 + "\n: 1",
    "a long number": "namespaces: [{name: a, pid: " + "9" * 500_000 + "}]",
    "a long pattern": "interfaces: {include: ['" + "*a" * 400_000 + "']}",
    "a long string": "peers: [{public_key: '" + "A" * 900_000 + "'}]",
    "too long": "#" * (MAX_BYTES + 1),
    "anchors": "".join(f"k{i}: &a{i} 1\n" for i in range(40_000)),
}


@pytest.mark.parametrize("text", BOMBS.values(), ids=BOMBS.keys())
def test_hostile_text_is_refused_in_bounded_time(text):
    began = time.process_time()
    assert problems(text, METRICS)
    assert time.process_time() - began < 5  # with libyaml the slowest takes a fourth of that


def test_values_are_counted_before_a_tree_is_built_and_again_while_aliases_multiply_them():
    assert problems(BOMBS["many values"])[0].startswith(f"f.yml:1: more than {MAX_NODES} values")
    peers = f"peers:\n- &p {{public_key: {ONES}, interface: wg0, name: a, target: 10.0.0.2}}\n" + "- *p\n" * 40_000
    assert problems(peers)[0].startswith(f"f.yml:1: aliases make more than {MAX_NODES} values")


def test_patterns_that_match_slowly_elsewhere_match_fast_here():
    pattern = "*a" * 120 + "b"
    config = parse(f"interfaces: {{include: ['{pattern}']}}", "f.yml")
    began = time.process_time()
    assert not config.interfaces.wanted("a" * 15)
    assert not Metrics(exclude=(pattern,)).excluded("a" * 2000)
    assert time.process_time() - began < 1


def test_names_for_ten_thousand_peers_are_read():
    entries = "".join(
        f"- {{public_key: {base64.b64encode(i.to_bytes(32, 'big')).decode()}, interface: wg0, name: n{i}}}\n"
        for i in range(10_000)
    )
    assert len(parse("peers:\n" + entries, "f.yml").peers) == 10_000


SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.dates(),
    st.binary(max_size=8),
    st.text(max_size=12),
    st.sampled_from(
        ["*", "wg0", "wg*", "[z-a]", "[!", "[]", "a/b", "10.0.0.1", "10.1.2.3/8", "::/0", "::1%a", "up", ONES]
    ),
)
KEYS = sorted(
    {
        name
        for struct in vars(config_module).values()
        if isinstance(struct, type) and issubclass(struct, msgspec.Struct)
        for name in struct.__struct_encode_fields__
    }
)
WORDS = st.one_of(st.sampled_from(KEYS), st.text(max_size=5))
ANYTHING = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(WORDS, inner, max_size=5))
# The right shape with anything in it, which gets further than what is wrong from the start.
ENTRY = st.dictionaries(st.sampled_from(KEYS), SCALARS, max_size=4)
SHAPED = st.fixed_dictionaries(
    {},
    optional={
        "interfaces": st.dictionaries(st.sampled_from(["include", "exclude", "expect"]), st.lists(SCALARS, max_size=3)),
        "namespaces": st.lists(ENTRY, max_size=3),
        "names": st.lists(SCALARS, max_size=3),
        "peers": st.lists(ENTRY, max_size=3),
        "expect": st.lists(ENTRY, max_size=3),
        "metrics": st.fixed_dictionaries({}, optional={"exclude": st.lists(SCALARS, max_size=3), "endpoint": SCALARS}),
    },
)


@settings(max_examples=200, deadline=None)
@given(st.one_of(st.text(), st.text(alphabet="{}[]:,-&*!|>'\"%@#? \n\tab0<~")), st.sampled_from(METRICS))
def test_any_text_is_a_configuration_or_a_list_of_problems(text, metric):
    problems(text, (metric,))
    with contextlib.suppress(YamlProblem):
        compose(text, yaml.SafeLoader)


@settings(max_examples=200, deadline=None)
@given(ANYTHING | SHAPED)
def test_any_structure_is_a_configuration_or_a_list_of_problems(structure):
    problems(yaml.safe_dump(structure, allow_unicode=True), METRICS)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_a_damaged_example_is_a_configuration_or_a_list_of_problems(data):
    text = (DATA / "full.yml").read_text()
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, min(len(text), start + 30)))
    problems(text[:start] + data.draw(st.text(max_size=4)) + text[end:], METRICS)


WORD = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"], exclude_characters="/*?[:"), min_size=1)
WORD = WORD.map(lambda text: text[:3]).filter(lambda text: text not in {".", ".."})
PATTERN = st.builds("{}{}".format, WORD, st.sampled_from(["", "*", "?", "[ab]"]))
ADDRESS = st.ip_addresses().filter(lambda ip: not (ip.is_multicast or ip.is_unspecified)).map(str)
PUBLIC_KEY = st.binary(min_size=32, max_size=32).map(lambda raw: base64.b64encode(raw).decode())
PLACES = {"netns": WORD, "path": WORD.map("/{}".format), "pid": st.integers(1, 1 << 22)}
GOOD = st.fixed_dictionaries(
    {},
    optional={
        "interfaces": st.fixed_dictionaries({"exclude": st.lists(PATTERN, max_size=2)}),
        "namespaces": st.one_of(
            st.lists(st.fixed_dictionaries({"name": WORD, key: place}), max_size=1) for key, place in PLACES.items()
        ),
        "names": st.lists(WORD.map("/{}*".format), max_size=2),
        "peers": st.lists(
            st.fixed_dictionaries({"public_key": PUBLIC_KEY, "name": WORD}, optional={"target": ADDRESS}),
            max_size=3,
            unique_by=lambda peer: peer["public_key"],
        ),
        "expect": st.lists(
            st.fixed_dictionaries(
                {"state": st.sampled_from(["up", "any", "auto"]), "public_key": PUBLIC_KEY},
                optional={"allowed_ip": ADDRESS, "name": PATTERN, "interface": PATTERN},
            ),
            max_size=3,
            unique_by=lambda rule: rule["public_key"],
        ),
        "metrics": st.fixed_dictionaries({"endpoint": st.sampled_from(["full", "address", "off"])}),
    },
)


@settings(max_examples=100, deadline=None)
@given(GOOD, st.booleans())
def test_a_good_configuration_is_taken_as_msgspec_itself_would_take_it(structure, flow):
    config = parse(yaml.safe_dump(structure, allow_unicode=True, default_flow_style=flow), "f.yml")
    for rule in structure.get("expect", ()):
        if "allowed_ip" in rule:
            rule["allowed_ip"] = str(ip_network(rule["allowed_ip"]))
    assert msgspec.convert(structure, Config) == config


# Docs


def test_the_example_of_the_docs_is_a_configuration_with_every_section():
    config = load(ROOT / "docs" / "config.example.yml", METRICS)
    for section in Config.__struct_fields__:
        assert getattr(config, section) != getattr(Config(), section), section


def _generate(*arguments, root=ROOT):
    command = [sys.executable, str(root / "docs" / "generate_configuration.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def test_the_reference_in_the_docs_is_what_the_code_says():
    done = _generate("--check")
    assert (done.returncode, done.stderr) == (0, "")


def test_a_stale_reference_is_noticed_and_made_fresh(tmp_path):
    (tmp_path / "wg_exporter").symlink_to(ROOT / "wg_exporter")
    (tmp_path / "docs").mkdir()
    for name in ("generate_configuration.py", "config.example.yml"):
        (tmp_path / "docs" / name).write_text((ROOT / "docs" / name).read_text())
    page = tmp_path / "docs" / "configuration.md"
    page.write_text((ROOT / "docs" / "configuration.md").read_text().replace("peers", "pears", 1))
    stale = _generate("--check", root=tmp_path)
    assert stale.returncode == 1
    assert "is stale" in stale.stderr
    assert _generate(root=tmp_path).returncode == 0
    assert _generate("--check", root=tmp_path).returncode == 0


def test_every_key_is_in_the_reference():
    page = (ROOT / "docs" / "configuration.md").read_text()
    assert set(KEYS) <= set(re.findall(r"^\| `(\w+)`", page, re.MULTILINE))


def test_the_bounds_leave_room_for_what_a_file_of_that_size_needs():
    entry = f"- {{public_key: {ONES}, name: n}}\n"
    assert MAX_BYTES // len(entry) * 5 < MAX_NODES


# --- web -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "allowed"),
    [
        ("gw1.example", True),
        ("GW1.example:9586", True),
        ("gw1.example.:80", True),
        ("10.0.0.1:9586", True),
        ("[fd00::1]:9586", True),
        ("[fd00::1]", True),
        ("attacker.example:9586", False),
        ("gw1.example.attacker.example", False),
        ("10.0.0.2", False),
        ("[fd00::2]:9586", False),
        ("", False),
        (":9586", False),
        ("[", False),
    ],
)
def test_only_names_that_are_listed_are_answered(host, allowed):
    web = parse("web: {allowed_hosts: [gw1.example, 10.0.0.1, 'fd00::1']}", "f.yml").web
    assert web.allows(host) is allowed
    assert Config().web.allows(host)


@pytest.mark.parametrize("host", ["http://gw1", "gw1:9586", "gw1/metrics", "[fd00::1]:9586", ""])
def test_a_host_is_a_name_or_an_address_alone(host):
    with pytest.raises(ConfigError):
        parse(f"web: {{allowed_hosts: ['{host}']}}", "f.yml")
