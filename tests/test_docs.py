"""The docs say what is true: pages made from the code are fresh, examples run, links lead somewhere."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import click
import pytest
import yaml

from wg_exporter.catalogue import (
    METRICS,
    PEER_DNS_INFO,
    PEER_DNS_MISMATCH,
    PEER_DNS_SUCCESS,
    PEER_QUIET,
    PEER_RECEIVE_PACKETS,
    PEER_RERESOLVED,
    PEER_TRANSMIT_PACKETS,
)
from wg_exporter.cli import main
from wg_exporter.config import parse
from wg_exporter.config.web import parse_web
from wg_exporter.exposition.fields import HEALTH_FIELDS
from wg_exporter.metric import Kind, Scope

ROOT = Path(__file__).parents[1]
GENERATORS = sorted((ROOT / "docs").glob("generate_*.py"))
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("bench/*.md")])
NAMES = [metric.name for metric in METRICS]
SERIES = {metric.name + s for metric in METRICS if metric.kind is Kind.HISTOGRAM for s in ("_bucket", "_sum", "_count")}

# What other exporters serve; `/metrics` has them not.
THEIRS = {
    "wireguard_sent_bytes_total",
    "wireguard_received_bytes_total",
    "wireguard_latest_handshake_seconds",
    "wireguard_latest_handshake_delay_seconds",
    "wireguard_device_info",
    "wireguard_peer_allowed_ips_info",
    "wireguard_peer_last_handshake_seconds",
}


class Block(NamedTuple):
    """A fenced block of a page."""

    page: Path
    line: int
    language: str
    text: str


def blocks(*languages: str) -> list[pytest.param]:
    found = [
        Block(page, text.count("\n", 0, match.start()) + 1, match[1], match[2])
        for page in PAGES
        for text in [page.read_text()]
        for match in re.finditer(r"^```(\w+)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    ]
    return [pytest.param(block, id=f"{block.page.name}:{block.line}") for block in found if block.language in languages]


def pages() -> list[pytest.param]:
    return [pytest.param(page, id=str(page.relative_to(ROOT))) for page in PAGES]


def promtool(*arguments: str | Path) -> None:
    if not shutil.which("promtool"):
        pytest.skip("promtool: no such command; apt-get install prometheus")
    done = subprocess.run(["promtool", *arguments], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


# Pages made from the code


def generate(generator: Path, *arguments: str, columns: int = 80) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(generator), *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={"PATH": "", "COLUMNS": str(columns)},
    )


@pytest.mark.parametrize("columns", [40, 250])
@pytest.mark.parametrize("generator", GENERATORS, ids=lambda path: path.stem)
def test_a_page_made_from_the_code_is_fresh_however_wide_the_terminal_is(generator, columns):
    done = generate(generator, "--check", columns=columns)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("generator", GENERATORS, ids=lambda path: path.stem)
def test_a_stale_page_is_noticed_and_made_fresh(generator, tmp_path):
    for name in ("wg_exporter", "bench"):  # what pages are made from
        (tmp_path / name).symlink_to(ROOT / name)
    docs = shutil.copytree(ROOT / "docs", tmp_path / "docs")
    alerts = shutil.copytree(ROOT / "alerts", tmp_path / "alerts")
    name = generator.stem.removeprefix("generate_")
    page = alerts / "wireguard.rules.yml" if name == "rules" else docs / f"{name}.md"
    good = page.read_text()
    page.write_text("".join(good.splitlines(keepends=True)[:-1]))
    stale = generate(docs / generator.name, "--check")
    assert stale.returncode == 1
    assert "is stale" in stale.stderr
    assert generate(docs / generator.name).returncode == 0
    assert page.read_text() == good


def test_every_metric_is_in_the_reference_with_its_type_and_help():
    page = (ROOT / "docs/metrics.md").read_text()
    for metric in METRICS:
        [row] = [line for line in page.splitlines() if line.startswith(f"| `{metric.name}` ")]
        assert f"| {metric.kind} |" in row
        assert row.endswith(f"| {metric.help} |")


def test_every_command_and_flag_is_in_the_reference():
    page = (ROOT / "docs/cli.md").read_text()
    assert main.commands
    for name, command in main.commands.items():
        assert f"\n## wg-exporter {name}\n" in page
        section = page.partition(f"\n## wg-exporter {name}\n")[2].partition("\n## ")[0]
        for option in command.params:
            assert option.opts[0] in section or option.name.upper() in section


# Examples


@pytest.mark.parametrize("block", blocks("yaml"))
def test_yaml_in_the_docs_is_a_configuration_of_prometheus_or_of_the_exporter(block, tmp_path):
    keys = yaml.safe_load(block.text).keys()
    if {"tls_server_config", "basic_auth_users"} & keys:
        parse_web(re.sub(r"\$2y\$10\$\.\.\.", "$2y$10$" + "x" * 53, block.text), block.page.name)
        return
    if not {"scrape_configs", "rule_files"} & keys:
        parse(block.text, block.page.name, NAMES)  # raises with every mistake
        return
    path = tmp_path / "prometheus.yml"
    path.write_text(block.text)
    promtool("check", "config", path)


@pytest.mark.parametrize("block", blocks("promql"))
def test_queries_in_the_docs_are_promql_over_metrics_that_there_are(block, tmp_path):
    assert set(re.findall(r"wireguard_\w+", block.text)) <= {*NAMES, *SERIES}
    path = tmp_path / "rules.yml"
    rule = {"record": "docs:query", "expr": block.text}
    path.write_text(yaml.safe_dump({"groups": [{"name": "docs", "rules": [rule]}]}))
    promtool("check", "rules", path)


@pytest.mark.parametrize("block", blocks("sh"))
def test_commands_in_the_docs_are_targets_of_make_or_commands_of_ours(block):
    for line in block.text.splitlines():
        check_command(shlex.split(line, comments=True))


def check_command(words: list[str]) -> None:
    if not words:
        return
    tool = Path(words[0]).name
    if tool == "make":
        assert set(words[1:]) <= make_targets(), words
    elif tool == "wg-exporter":
        check_flags(words[1:])
    else:
        assert tool in {"python3", "pip", "ln", "install"}, f"{tool}: say here how its commands are to be checked"


def check_flags(words: list[str]) -> None:
    """A wrong command or flag raises a UsageError; nothing is run."""
    with click.Context(main) as context:
        _name, command, rest = main.resolve_command(context, words)
        command.make_context(words[0], rest, parent=context)


def make_targets() -> set[str]:
    return set(re.findall(r"^([a-z]+):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE))


@pytest.mark.parametrize("page", pages())
def test_commands_within_sentences_are_there_too(page):
    for words in re.findall(r"`make ([a-z]+)`", page.read_text()):
        assert words in make_targets()
    for flag in re.findall(r"`(--(?:web|config|log)\.[a-z.-]*[a-z])", page.read_text()):
        assert flag in {name for command in main.commands.values() for param in command.params for name in param.opts}


@pytest.mark.parametrize("block", blocks("python"))
def test_python_in_the_docs_runs(block):
    done = subprocess.run(
        [sys.executable, "-c", f"{block.text}\nimport prometheus_client\n"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr
    if "print" in block.text:
        assert "\nwireguard_exporter_build_info{" in done.stdout


# What the pages say


def test_the_readme_begins_with_the_two_commands_in_their_order():
    [first, *_] = [block.values[0] for block in blocks("sh") if block.values[0].page.name == "README.md"]
    assert [line.partition("#")[0].split() for line in first.text.splitlines()] == [["make", "demo"], ["make", "test"]]


@pytest.mark.parametrize("page", pages())
def test_links_lead_to_a_file_and_a_heading_that_there_are(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if re.match(r"https?://", target):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.is_relative_to(ROOT), target
        assert file.exists(), target
        if anchor:
            assert anchor in headings(file), target


def headings(page: Path) -> set[str]:
    """The anchors that GitHub gives the headings of a page."""
    titles = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", pages())
def test_metrics_that_are_named_are_served(page):
    named = re.findall(
        r"\bwireguard_(?:interface|peer|probe|mtu|exporter|sent|received|latest|device)_\w+", page.read_text()
    )
    theirs = THEIRS if page.name == "compatibility.md" else set()
    assert {name for name in named if name not in {"wireguard_exporter", *theirs}} <= {*NAMES, *SERIES}


@pytest.mark.parametrize("page", pages())
def test_no_page_tells_of_the_machine_that_it_was_written_on(page):
    assert not re.search(r"/work/|/tmp/venv|/root/|/home/[a-z]+/", page.read_text())


def test_the_readme_counts_series_as_the_catalogue_does():
    points = {field.metric: len(field.points) for field in HEALTH_FIELDS}
    # Without those that are there only while somebody works on the peer, where its file has a host name, or where
    # packets are counted.
    rare = {PEER_QUIET, PEER_DNS_MISMATCH, PEER_DNS_SUCCESS, PEER_DNS_INFO, PEER_RERESOLVED}
    rare |= {PEER_RECEIVE_PACKETS, PEER_TRANSMIT_PACKETS}
    usual = [metric for metric in METRICS if metric.scope is Scope.PEER and metric not in rare]
    peers = sum(points.get(metric, 1) for metric in usual)
    assert f"not {peers}" in (ROOT / "README.md").read_text()
    assert f"A peer has up to {peers} series." in (ROOT / "docs/prometheus.md").read_text()


def test_the_readme_tells_the_figures_of_the_last_benchmark_of_pages():
    page = (ROOT / "bench/PAGING.md").read_text()
    rows = {row[0]: row[1:] for row in (line.strip("| ").split(" | ") for line in page.splitlines() if "|" in line)}
    readme = " ".join((ROOT / "README.md").read_text().split())
    ours = rows["the page of wg-exporter's rules"][0]
    age = rows["the page of a rule on handshakes older than 300 s"][0]
    false, _, missed, _ = rows["wg-exporter, all that are critical"]
    assert f"it took {ours}, the median of thirty tunnels; a rule on handshakes older than 300 s took {age}" in readme
    assert f"there were {false} false pages, and {missed} outages were missed" in readme


def test_the_layers_of_the_architecture_hold_every_module_once():
    page = (ROOT / "docs/architecture.md").read_text()
    layers = page.partition("| layer | ")[2].partition("\n\n")[0].splitlines()[2:]
    named = [module for line in layers for module in re.findall(r"`(\w+)`", line.split("|")[2])]
    package = ROOT / "wg_exporter"
    there = {path.stem for path in package.glob("*.py")} | {path.parent.name for path in package.glob("*/__init__.py")}
    assert sorted(named) == sorted(there - {"__init__", "__main__"})


def test_the_picture_shows_what_show_prints_and_loads_nothing_from_elsewhere():
    svg = (ROOT / "docs/images/show.svg").read_text()
    for words in ("latest handshake", "never connected", "branch (dead)", "2 peers expected up, 1 not"):
        assert words in svg
    assert re.findall(r"https?://[^\"]+", svg) == ["http://www.w3.org/2000/svg"]
