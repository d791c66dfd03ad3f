"""`wg-exporter show`: what /metrics says, for a person at a terminal, perhaps at three in the morning.

What is broken must be found without reading everything. So a peer that is down has a red `!`, and the summary names it
with the reason; what is degraded or doubtful is yellow; the rest has no mark. All text from outside goes through
`words.plain`, and none is read as markup.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import time
from itertools import chain, islice
from typing import TYPE_CHECKING, TextIO

from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.segment import Segment
from rich.style import Style
from rich.text import Text

from wg_exporter.cli.show.closer import closer
from wg_exporter.cli.show.overview import (
    Standing,
    fix_for,
    not_asked,
    problems,
    quiet_line,
    reason_when_empty,
    standing,
    unprobed,
)
from wg_exporter.cli.show.tables import COLUMNS, Line, beneath, draw, layout
from wg_exporter.health.states import State
from wg_exporter.status import words
from wg_exporter.status.rows import whose

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from wg_exporter import model
    from wg_exporter.events import Event
    from wg_exporter.status.rows import DeviceRow, Overview, PeerRow

REASONS = 5
"""How many reasons for missing probes are listed: a large host may have one for each peer."""

NAMED = 10
"""How many peers are named as down, and how many as degraded."""

PIPE_WIDTH = 400
"""Columns of a console that is no terminal: wide enough that nothing is cut or left out."""


class _Screen:
    """An overview as rich prints it: in full or, with a `heading` (`--watch`), cut to the height of the terminal."""

    def __init__(
        self,
        overview: Overview,
        previous: Overview | None,
        width: int | None,
        heading: str,
        events: Sequence[Event] = (),
    ) -> None:
        self._overview = overview
        self._previous = previous
        self._width = width
        self._heading = heading
        self._events = events

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        height = options.size.height if self._heading else None
        width = self._width or options.max_width
        options = options.update(width=width, height=None, no_wrap=True)
        encoding = "utf-8" if options.encoding.startswith("utf") else options.encoding
        if height is None:
            parts = [*self._devices(width, encoding, None), *chain(*self._verdict(encoding))]
        else:  # the top is what stays in view, so the summary comes first
            verdict = chain(*reversed([*self._verdict(encoding)]))
            parts = [Text(self._heading, "dim"), *verdict, Text(""), *self._devices(width, encoding, height)]
        lines: list[list[Segment]] = []
        for part in parts:
            lines += [part] if isinstance(part, list) else _wrapped(part, console, options)
        if height is not None and len(lines) > height:
            lines[height - 1 :] = [[Segment("more does not fit: name an interface or a peer", Style(dim=True))]]
        for line in lines:
            yield from line
            yield Segment.line()

    def _devices(self, width: int, encoding: str, limit: int | None) -> Iterator[Text | list[Segment]]:
        """The devices with their peers; at most `limit` of each, as no more fit on the terminal."""
        tables = [(row, self._lines(row, limit)) for row in self._overview.devices[:limit]]
        every = [line for _, lines in tables for line in lines]
        unused = {name for name in COLUMNS if name.endswith("_rate") and not self._previous}
        unused |= {"quiet"} if all(line.row.quiet is None for line in every) else set()
        unused |= {"reason"} - {"reason" for line in every if line.row.health.reason}
        unused |= {"cause"} if all(line.row.cause is None for line in every) else set()
        unused |= {"rx_packets", "tx_packets"} if all(line.row.packets is None for line in every) else set()
        unused |= {"fast"} if all(line.row.fast is None for line in every) else set()
        unused |= {"rtt", "loss"} if all(line.row.window is None for line in every) else set()
        unused |= {"mtu"} if all(line.row.mtu is None for line in every) else set()
        columns = {name: column for name, column in COLUMNS.items() if name not in unused}
        widths = layout(every, columns, width, encoding)
        for row, lines in tables:
            yield from _heading(row, encoding)
            if lines:
                yield from draw(
                    lines, {name: (c, widths[name]) for name, c in columns.items() if name in widths}, encoding
                )
            if len(every) == 1 and lines:
                yield from beneath(every[0], [c for name, c in columns.items() if name not in widths], encoding)
                config_file = self._overview.teller.config_file if self._overview.teller else ""
                yield from closer(row, every[0].row, config_file, self._overview.wall, encoding, self._events)
            yield Text("")
        left_out = [column.title for name, column in columns.items() if name not in widths]
        if len(every) > 1 and left_out:
            yield Text(f"no room at {width} columns for: {', '.join(left_out)}", "dim")

    def _lines(self, row: DeviceRow, limit: int | None) -> list[Line]:
        wall, before = self._overview.wall, self._previous
        known = [] if before is None else [old for old in before.devices if whose(old) == whose(row)]
        peers = {old.peer.public_key: old.peer for device in known for old in device.peers}
        seconds = wall - before.wall if before else 0.0
        return [
            Line(peer, standing(peer), wall, peers.get(peer.peer.public_key), seconds) for peer in row.peers[:limit]
        ]

    def _verdict(self, encoding: str) -> Iterator[tuple[Text, ...]]:
        """What is wrong, a tuple of lines for each problem; the last one is about the peers expected up."""
        overview = self._overview

        def say(text: str, style: str) -> tuple[Text]:
            return (Text(words.plain(text, encoding), style),)

        for problem in problems(overview):
            yield say(f"! {problem}", "yellow")
        if not overview.devices:
            yield say(reason_when_empty(overview), "bold yellow")
            return
        for outcome in overview.outcomes:
            if not outcome.success:
                where = f" in {outcome.netns}" if outcome.netns else ""
                yield say(f"! {outcome.source}{where}: {outcome.problem}", "bold red")
        unread = [_label(row) for row in overview.devices if row.failed]
        if unread:
            yield say(f"! {words.count(len(unread), 'device')} could not be read: {words.first_of(unread)}", "bold red")
        down = [_label(row) for row in overview.devices if row.link and not row.link.up and not row.quiet]
        if down:
            yield say(f"! {words.count(len(down), 'device')} down: {words.first_of(down)}", "bold red")
        for row in overview.devices:
            if row.drift and row.drift.total:
                what = f"{_label(row)} differs from {row.drift.path} in {words.count(row.drift.total, 'place')}"
                yield say(f"! {what}: wg-exporter drift {whose(row)[1]}", "yellow")
        yield from _peers_verdict(overview, encoding, watching=bool(self._heading or self._previous))


def _peers_verdict(overview: Overview, encoding: str, *, watching: bool) -> Iterator[tuple[Text, ...]]:
    """The peers to look at, a tuple of lines for each group; those expected up come last."""

    def say(text: str, style: str, items: Sequence[str] = ()) -> tuple[Text, ...]:
        """A line with a single item in it, or with several items below it."""
        if len(items) == 1:
            text, items = f"{text}: {items[0]}", ()
        lines = [text, *(f"    {item}" for item in items[:NAMED])]
        lines += [f"    and {len(items) - NAMED:,} more"] * (len(items) > NAMED)
        return tuple(Text(words.plain(line, encoding), style) for line in lines)

    found: dict[Standing, list[tuple[DeviceRow, PeerRow]]] = {which: [] for which in Standing}
    for row in overview.devices:
        for peer in row.peers:
            found[standing(peer)].append((row, peer))
    doubts = [_who(row, peer, overview.wall) for row, peer in found[Standing.DOUBT]]
    degraded, broken = (
        [_why(*who, overview.wall) for who in found[which]] for which in (Standing.DEGRADED, Standing.BROKEN)
    )
    expected = sum(peer.expected_up for row in overview.devices for peer in row.peers)
    unknown = sum(peer.expected_up and peer.health.state is None for row in overview.devices for peer in row.peers)
    if doubts:
        what = "expected up, quiet: idle or dead, without keepalive an age can't tell"
        yield say(f"! {words.count(len(doubts), 'peer')} {what}: {words.first_of(doubts)}", "yellow")
    for reason, names in islice(unprobed(overview).items(), REASONS):
        yield say(f"! {words.count(len(names), 'peer')} can't be probed: {words.first_of(names)}: {reason}", "yellow")
    for reason, names in islice(not_asked(overview).items(), REASONS):
        who = f"{words.count(len(names), 'peer')} without fast echoes: {words.first_of(names)}"
        yield say(f"! {who}: {reason}", "yellow")
    if degraded:
        yield say(f"! {words.count(len(degraded), 'peer')} degraded", "yellow", degraded)
    if overview.quiet:
        names = [quiet_line(overview, quiet) for quiet in overview.quiet.all]
        what = "1 is quiet" if len(names) == 1 else f"{len(names):,} are quiet"
        yield say(f"~ {what}", "cyan", names)
    if overview.teller or overview.unasked or overview.by_one_look:
        yield say(_source(overview, watching=watching), "dim")
    every = sum(len(row.peers) for row in overview.devices)
    total = f"{words.count(expected, 'peer')} expected up, {len(broken):,} not"
    if not expected:
        whom = f"of {words.count(every, 'peer')} none is expected up" if every else "there is no peer"
        total = f"nothing here can page: {whom}" + (f"; {len(broken):,} down" if broken else "")
    total += f", {unknown:,} not known" if unknown else ""
    left = [one for row in overview.devices for one in row.peers if one.expected_up and one.quiet]
    silent = sum(one.health.state is State.DOWN for one in left)
    total += f", {len(left):,} quiet" if left else ""
    total += f" ({silent:,} down)" if silent else ""
    style = "green" if expected and not unknown and not left else "dim"
    yield say(f"! {total}", "bold red", broken) if broken else say(total, style)


def _source(overview: Overview, *, watching: bool) -> str:
    """Who says all this, and what that leaves open."""
    if overview.teller:
        return f"as the exporter on {overview.teller.host} sees it, which has run for {_since(overview)}"
    who = f"looked for itself: {overview.unasked}" if overview.unasked else "looked for itself"
    if not overview.by_one_look:
        return who
    if watching:
        return f"{who}; whether a peer is up shows within half a minute, until then it is ?"
    return f"{who}; one look can't tell whether a peer is up (?): start the exporter, or use --watch for half a minute"


def _since(overview: Overview) -> str:
    seconds = int(overview.wall - overview.teller.started) if overview.teller else 0
    return words.ago(max(seconds, 1)).removesuffix(" ago")


def _wrapped(text: Text, console: Console, options: ConsoleOptions) -> list[list[Segment]]:
    """The lines of a text that may be too long for one: those after the first are indented by two more cells."""
    indent = len(text.plain) - len(text.plain.lstrip()) + 2
    lines = []
    room = options.max_width if text.cell_len <= options.max_width else max(options.max_width - indent, 20)
    for index, line in enumerate(text.wrap(console, room)):
        line.rstrip()
        whole = Text(" " * indent if index else "").append_text(line)
        lines += console.render_lines(whole, options, pad=False)
    return lines


def _label(row: DeviceRow) -> str:
    netns, name = whose(row)
    return f"{name} in {netns}" if netns else name


def _who(row: DeviceRow, peer: PeerRow, wall: float) -> str:
    return f"{peer.name} on {_label(row)} ({words.handshake(peer.peer.last_handshake_ns, wall)})"


def _why(row: DeviceRow, peer: PeerRow, wall: float) -> str:
    health = peer.health
    since = f" ({words.seen(at, wall)})" if (at := health.reason_at or health.changed_at) else ""
    cause = f"; cause: {peer.cause.cause}" if peer.cause else ""
    return f"{peer.name} on {_label(row)}: {health.state}, {health.reason}: {health.evidence}{since}{cause}"


def _heading(row: DeviceRow, encoding: str) -> Iterator[Text]:
    """What is known of a device itself: a line, and more for its key and its counters."""
    device, failed, link = row.device, row.failed, row.link
    sound = device and (not link or link.up)
    head = Text("" if sound else "! ", "bold" if sound else "bold red").append(words.plain(_label(row), encoding))
    if link:
        head.append("  up" if link.up else "  DOWN", "not bold green" if link.up else "bold red")
    if row.gone:
        head.append("  GONE", "bold red")
    known = device or failed
    facts = [known.backend.value] if known else []
    if device:
        facts.append(f"port {device.listen_port}" if device.listen_port else "no port")
    if link:
        facts.append(f"MTU {link.mtu}")
    if device:
        facts.append(words.count(len(row.peers), "peer"))
    if row.gone:
        facts.append(f"{words.count(len(row.peers), 'peer')} expected up")
    head.append("  " + "  ".join(facts), "not bold default")
    yield head
    if failed:
        problem = f"  {failed.problem}{fix_for(failed)}"
        yield Text(words.plain(problem, encoding), "red")
    if device:
        yield Text(f"  public key {words.plain(device.public_key, encoding) or 'none: no private key is set'}", "dim")
        if not device.fresh:
            yield Text("  this read failed half way: the peers are those of an earlier one", "yellow")
    if link:
        yield from _counters(link)


def _counters(link: model.Link) -> Iterator[Text]:
    pairs = (
        ("packets", link.rx_packets, link.tx_packets, "dim"),
        ("errors", link.rx_errors, link.tx_errors, "yellow"),
        ("dropped", link.rx_dropped, link.tx_dropped, "yellow"),
    )
    parts = [(f"{what} {rx:,} received, {tx:,} sent", style) for what, rx, tx, style in pairs if rx or tx]
    if parts:
        text = Text("  ")
        for index, (part, style) in enumerate(parts):
            text.append("; " if index else "", "dim").append(part, style)
        yield text


def render(
    overview: Overview,
    *,
    width: int | None = None,
    previous: Overview | None = None,
    events: Sequence[Event] = (),
) -> _Screen:
    """What rich prints for an overview: in `width` columns (by default the console's), with rates since `previous`, and
    with the last `events` of the only peer.
    """
    return _Screen(overview, previous, width, "", events)


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Pass the error on to `Program`, which gives the exit code."""
        raise  # noqa: PLE0704 - rich calls this while it handles the BrokenPipeError


def console(file: TextIO | None = None) -> Console:
    """A console for `show`. One that is no terminal (a pipe, a file) is wide enough for every column, so that `grep`
    finds everything, unless COLUMNS says otherwise."""
    found = _Console(file=file or sys.stdout, highlight=False, markup=False, emoji=False)
    if not found.is_terminal and ("COLUMNS" not in os.environ or found.width < 1):
        found.width = PIPE_WIDTH
    elif found.width < 1:  # a COLUMNS that can't be meant: rich would print nothing
        found.width = shutil.get_terminal_size().columns
    return found


def watch(read: Callable[[], Overview], console: Console, interval: float, stop: Callable[[], bool]) -> None:
    """Show what `read` gives every `interval` seconds, with rates, until `stop()` is true or Ctrl-C is pressed.

    A terminal shows it in the alternate screen, and leaves that at the end; elsewhere the overviews follow each other.
    What `read` raises is passed on.
    """
    previous: Overview | None = None
    live = Live(console=console, screen=True, auto_refresh=False, redirect_stdout=False, redirect_stderr=False)
    try:
        with live if console.is_terminal else contextlib.nullcontext():
            while not stop():
                due = time.monotonic() + interval
                overview = read()
                clock = time.strftime("%H:%M:%S", time.localtime(overview.wall))
                if console.is_terminal:
                    heading = f"{clock}  every {interval:g} s, Ctrl-C leaves"
                    live.update(_Screen(overview, previous, None, heading), refresh=True)
                else:
                    console.print(clock, render(overview, previous=previous), sep="\n")
                previous = overview
                _wait(due, live, console, stop)
    except KeyboardInterrupt:
        return


def _wait(due: float, live: Live, console: Console, stop: Callable[[], bool]) -> None:
    """Sleep until the monotonic time `due`. Ten times a second, look for `stop` and for a new size of the terminal."""
    size = console.size
    while (left := due - time.monotonic()) > 0 and not stop():
        time.sleep(min(left, 0.1))
        if console.is_terminal and console.size != size:
            size = console.size
            live.refresh()
