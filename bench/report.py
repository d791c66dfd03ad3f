"""Turn the figures of one run into RESULTS.md: what was measured, the ratios, and each limit with its verdict."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING, Any

from bench import probes, scrapes, serving, sizes
from bench.contestants import Cost
from bench.guest import ALONE, OURS, PAGES, PATIENCE, PROBED, PROBER

if TYPE_CHECKING:
    from collections.abc import Iterator

LOADS = {"tenth": "a tenth of the peers moved", "all": "all peers moved"}
PROBING = {"probing": f"{PROBED} of them probed", "silence": f"{PROBED} of them probed and silent"}
MIB = 1024.0  # KiB

_HEAD = """\
<!-- Written by `make bench`. Do not edit by hand. -->
# Benchmark

{date}, Linux {kernel} in a virtual machine under software emulation (2 CPUs, 3 GB) on {cpu}, Python {python}.
Everything there takes about ten times as long as on real hardware: **read the ratios, not the times**.

One scrape of a kernel device whose peers have two allowed IPs (IPv4 and IPv6), an endpoint, a keepalive interval and a
session each. `wg` is `wg show all dump`, to /dev/null or through a pipe, whichever is cheaper.
Time is from the request to the last byte of the body, at a client that does nothing else and keeps its connection, as
Prometheus does; CPU is that of the server and of all that it starts, the prober by itself: it works at its own pace,
scrape or no scrape.
Median (lowest to highest) of {rounds} rounds, in which all take turns. Before each measured scrape of ours bytes
moved for exactly the wanted peers, spread evenly over the device (checked with `wg show` in each round): each of them
sends one keepalive of 32 bytes over a real session. How it is done: [README.md](README.md).
"""


def render(figures: dict[str, Any]) -> str:
    """The whole file."""
    parts = [_HEAD.format(**figures), "## Verdict\n", _table(("limit", "measured", "met"), verdicts(figures))]
    for count, size in figures["sizes"].items():
        for load, words in LOADS.items():
            parts += [f"## {int(count):,} peers, {words}\n", _table(_COLUMNS, _rows(figures, size, load))]
        for kind in PROBING:
            if not isinstance(size.get(kind, ""), str):
                parts += [*_probing(size[kind], int(count), kind, figures["rounds"])]
        samples = ", ".join(f"{name} {n / int(count):.1f}" for name, n in size["samples"].items())
        parts.append(f"Samples for each peer, everything included: {samples}.\n")
        if size["incomplete"]:
            parts.append(f"Answers without all peers, left out of the figures: {size['incomplete']}.\n")
        if "background" in size:
            share = f"{100 * size['background']:.1f} %"
            parts += [
                f"Where the time of ours goes at {int(count):,} peers:\n",
                _table(_STAGES, _stages(size["stages"])),
            ]
            parts.append(f"Background tick of ours while nobody scrapes: {share} of one (emulated) CPU.\n")
    parts += ["## One scrape in one process, outside the virtual machine\n", _table(_ALONE, _alone(figures["scrapes"]))]
    if not isinstance(figures["mtu"], str):
        parts += ["## Finding the MTU, outside the virtual machine\n", _table(_RACE, _race(figures["mtu"])), _RACED]
    return "\n".join(parts)


_COLUMNS = ("", "time, ms", "CPU, ms", "time / wg", "CPU / wg", "time / mdlayher", "body, kB")


_STAGES = ("ms, without HTTP", *LOADS.values())


def _stages(stages: dict[str, dict[str, list[float]]]) -> Iterator[tuple[str, ...]]:
    """Each stage without those before it."""
    names = list(next(iter(stages.values())))
    for before, name in zip((None, *names), names, strict=False):
        medians = [
            statistics.median(stages[load][name]) - (statistics.median(stages[load][before]) if before else 0)
            for load in LOADS
        ]
        yield _STAGE_WORDS[name], *(f"{1e3 * seconds:.0f}" for seconds in medians)


_STAGE_WORDS = {
    "kernel answers": "the kernel answers the dump (the floor of any reader)",
    "read and decoded": "decoding",
    "rendered": "links, names, other sources and rendering",
}


def _probing(probing: dict[str, Any], count: int, kind: str, rounds: int) -> Iterator[str]:
    """Scrapes while some peers are probed."""
    head = ("", "time, ms", "CPU, ms", "time / wg", "CPU / wg", "body, kB")
    for load, words in LOADS.items():
        costs = probing[load]
        yield f"## {count:,} peers, {PROBING[kind]}, {words}\n"
        rows: list[tuple[str, ...]] = []
        for name in costs:
            wall, cpu, size = _all(costs, name)
            time, cpu_share = (of(costs, name) / of(costs, _baseline(costs)) for of in (_time, _cpu))
            row = (name, _spread(wall), _spread(cpu), f"{time:.2f}", f"{cpu_share:.2f}", f"{size / 1000:.0f}")
            rows.append((name, "-", row[2], "-", row[4], "-") if name == PROBER else row)
        yield _table(head, rows)
        if (measured := len(costs[OURS])) < rounds:
            yield f"{measured} rounds: a session lives 180 s, and this machine needs most of them to make all.\n"
    if kind == "probing":
        yield "The far ends of the probed peers answer, from a process beside.\n"
    else:
        yield "None of the probed peers answers: each is looked at closely until it is known to be down.\n"


_ALONE = ("10,000 peers, without kernel and HTTP", "CPU, ms", f"/ {scrapes.YARDSTICK.name}", "body, kB")


def _alone(figures: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    """What each case of `bench.scrapes` costs."""
    for name, seconds, ratio, size in scrapes.rows(figures):
        yield name, f"{1e3 * seconds:.1f}", f"{ratio:.2f}", f"{size / 1000:.0f}"


_RACE = ("path", "tool", "found", "time, ms", "time / wg-exporter mtu")

_RACED = f"""\
Each run has a new path with a link of {sizes.MTU} bytes in its middle. ping halves between {sizes.SMALLEST} and
{sizes.LARGEST} bytes, with a second for each size. Only `wg-exporter mtu` looks into the tunnel too, and says where the
path shrinks and what to set.
"""


def _race(figures: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    """Each tool on each path."""
    for path, tool, found, seconds, ratio in sizes.rows(figures):
        yield path, tool, found, _spread(seconds), f"{ratio:.2f}"


def _table(head: tuple[str, ...], rows: Iterator[tuple[str, ...]] | list[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _rows(figures: dict[str, Any], size: dict[str, Any], load: str) -> Iterator[tuple[str, ...]]:
    costs = size[load]
    baseline = _baseline(costs)
    for name in sorted(costs, key=lambda name: ("gzip" in name, name != OURS, name)):
        wall, cpu, size_kb = _all(costs, name)
        yield (
            name,
            _spread(wall),
            _spread(cpu),
            f"{_time(costs, name) / _time(costs, baseline):.2f}",
            f"{_cpu(costs, name) / _cpu(costs, baseline):.2f}",
            f"{_time(costs, name) / _time(costs, 'mdlayher'):.2f}" if "mdlayher" in costs else "-",
            f"{size_kb / 1000:.0f}" if size_kb else "-",
        )
    for name, patience in size["too_slow"].items():
        yield (name, f"more than {patience:.0f} s: not waited for", *("-",) * 5)
    for name, reason in figures["missing"].items():
        yield (name, f"not measured: {reason}", *("-",) * 5)


def _all(costs: dict[str, Any], name: str) -> tuple[list[float], list[float], int]:
    rows = [Cost(*row) for row in costs[name]]
    return [row.wall for row in rows], [row.cpu for row in rows], int(statistics.median(row.size for row in rows))


def _time(costs: dict[str, Any], name: str) -> float:
    return statistics.median(_all(costs, name)[0])


def _cpu(costs: dict[str, Any], name: str) -> float:
    return statistics.median(_all(costs, name)[1])


def _baseline(costs: dict[str, Any]) -> str:
    return min((name for name in costs if name.startswith("wg to ")), key=lambda name: _time(costs, name))


def _spread(seconds: list[float]) -> str:
    return f"{statistics.median(seconds) * 1e3:.0f} ({min(seconds) * 1e3:.0f} to {max(seconds) * 1e3:.0f})"


def verdicts(figures: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Each limit, what was measured, and whether it holds."""
    by_count = figures["sizes"]
    largest = by_count.get("10000")
    if largest:
        for load, of_wg, of_mdlayher in (("tenth", 0.5, 0.15), ("all", 1.0, 0.3)):
            yield from _against(figures, largest, load, of_wg, of_mdlayher)
            for what, measured, met in _one_process(largest[load]):
                yield f"10,000 peers, {LOADS[load]}: {what}", measured, met
        if "1000" in by_count:
            for load, words in LOADS.items():
                small, large = (_time(by_count[n][load], OURS) / int(n) for n in ("1000", "10000"))
                limit = f"cost for each peer at 10,000 within 20 % of that at 1,000, {words}"
                measured = f"{1e6 * small:.0f} µs, then {1e6 * large:.0f} µs: {100 * (large / small - 1):+.0f} %"
                yield limit, measured, _met(large / small <= 1.2)
        yield from _probing_verdicts(largest)
        rss, highest = largest["rss"] / MIB, largest["highest"] / MIB
        measured = f"{rss:.0f} MB (highest ever {highest:.0f} MB)"
        yield "at most 140 MB resident at 10,000 peers", measured, _met(highest <= 140)
        if "soak" in largest:
            yield "memory flat over 200 scrapes, 10,000 kernel peers", *_flat(largest["soak"]["rss"])
    soak = figures["native_soak"]
    what = "memory flat over 1,000 scrapes, 10,000 userspace peers, outside the virtual machine"
    yield (what, soak, "not measured") if isinstance(soak, str) else (what, *_flat(soak))
    yield from _natively(figures)
    idle = figures["idle_rss"] / MIB
    yield "at most 64 MB resident when idle", f"{idle:.0f} MB", _met(idle <= 64)
    start = statistics.median(figures["starts"])
    limit = "first good scrape within 0.5 s of the start, outside the virtual machine"
    yield limit, f"{_spread(figures['starts'])} ms", _met(start <= 0.5)


_NATIVE = (
    ("probes", probes.verdicts, "probing beside fping", "probing, outside the virtual machine"),
    ("mtu", sizes.verdicts, "finding the MTU, beside tracepath and ping", "outside the virtual machine"),
    ("serving", serving.verdicts, "serving by several processes and over TLS", "outside the virtual machine"),
)


def _natively(figures: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    """What is measured by modules of their own; each gives one line instead, if it can't be measured."""
    for name, limits, what, place in _NATIVE:
        if isinstance(figures[name], str):
            yield what, figures[name], "not measured"
        else:
            for limit, measured, kept in limits(figures[name]):
                yield f"{place}: {limit}", measured, _met(kept)


def _one_process(costs: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    """What it costs that the reader is a process of its own, which hands over what changed."""
    if ALONE in costs:
        time = _time(costs, OURS) / _time(costs, ALONE)
        yield "at most 1.05 x the time of one process", f"{time:.2f} x", _met(time <= 1.05)


def _probing_verdicts(size: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    for kind, probed in PROBING.items():
        if kind not in size:
            continue
        if isinstance(size[kind], str):
            yield f"10,000 peers, {probed}", size[kind], "not measured"
            continue
        for load, words in LOADS.items():
            costs = size[kind][load]
            wg = _baseline(costs)
            time, cpu = (of(costs, OURS) / of(costs, wg) for of in (_time, _cpu))
            probing = _cpu(costs, PROBER) / _cpu(costs, wg)
            limit = f"10,000 peers, {probed}, {words}: at most 1.0 x `wg show all dump`"
            measured = f"{time:.2f} x the time, {cpu:.2f} x the CPU (and {probing:.2f} x for probing meanwhile)"
            yield limit, measured, _met(time <= 1.0 and cpu <= 1.0)
        memory = size[kind]["rss"] / MIB
        yield f"10,000 peers, {probed}: at most 200 MB over all processes", f"{memory:.0f} MB", _met(memory <= 200)


def _against(
    figures: dict[str, Any], size: dict[str, Any], load: str, of_wg: float, of_mdlayher: float
) -> Iterator[tuple[str, str, str]]:
    costs, words = size[load], LOADS[load]
    for name, label, limit in (
        (_baseline(costs), f"at most {of_wg} x `wg show all dump`", of_wg),
        ("mdlayher", f"at most {of_mdlayher} x mdlayher's", of_mdlayher),
        ("MindFlavor", "below MindFlavor's", 1.0),
    ):
        what = f"10,000 peers, {words}: {label}"
        if name in costs:
            time, cpu = _time(costs, OURS) / _time(costs, name), _cpu(costs, OURS) / _cpu(costs, name)
            yield what, f"{time:.2f} x the time, {cpu:.2f} x the CPU", _met(time <= limit and cpu <= limit)
        elif name in size["too_slow"]:
            time = _time(costs, OURS)
            yield what, f"{time:.1f} s against more than {PATIENCE:.0f} s", _met(time < PATIENCE)
        else:
            yield what, figures["missing"].get(name, ""), "not measured"
    for name, theirs in zip(PAGES, ("mdlayher", "MindFlavor"), strict=True):
        if theirs in costs:
            cpu = _cpu(costs, name) / _cpu(costs, theirs)
            what = f"10,000 peers, {words}: the page for {theirs}'s dashboards at most 0.8 x the CPU of {theirs}'s own"
            yield what, f"{cpu:.2f} x", _met(cpu <= 0.8)


def _flat(rss: list[int]) -> tuple[str, str]:
    """Flat: from the third to fifth tenth of the scrapes to the last three, the median grows by at most 2 %."""
    early, late = statistics.median(rss[2:5]), statistics.median(rss[7:])
    growth = 100 * (late / early - 1)
    return f"{early / MIB:.1f} MB after a third, {late / MIB:.1f} MB at the end: {growth:+.1f} %", _met(growth <= 2)


def _met(yes: bool) -> str:  # noqa: FBT001
    return "yes" if yes else "**no**"
