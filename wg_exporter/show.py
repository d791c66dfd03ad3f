"""`wg-exporter show`: what /metrics says, for a person at a terminal, perhaps at three in the morning.

The idea: what is broken must be found without reading everything. A peer that is expected up and is not carries a red
`!`, and the summary names it; the rest stays quiet. One layout serves all devices, so that columns line up. When the
terminal is narrow, whole columns go, the least needed first, and a line says which.

An age alone can't tell a dead peer from an idle one, so only peers expected up are judged, by the rule of the metrics:
with persistent keepalive K, older than 180 + K + 20 s is not up (REJECT_AFTER_TIME is 180 s: WireGuard paper, 6.1).
Without keepalive an age proves nothing: that is a yellow doubt.

rich draws, but not the tables: its own take 7 s for 10,000 peers, these lines a fifteenth. All text from outside
goes through `words.plain`, and none is read as markup.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from enum import IntEnum
from typing import TYPE_CHECKING, NamedTuple, TextIO

from rich.cells import cell_len, set_cell_size
from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.segment import Segment
from rich.style import Style
from rich.text import Text

from wg_exporter import words

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from wg_exporter import model

PIPE_WIDTH = 400
"""Columns of a console that is no terminal: wide enough that nothing is cut or left out."""

_GAP = 2
_SUDO = "run: sudo wg-exporter show"


class PeerRow(NamedTuple):
    """A peer as a person knows it. `name` is its friendly name or, where `named` is False, the start of its key."""

    peer: model.Peer
    name: str
    named: bool
    expected_up: bool


class DeviceRow(NamedTuple):
    """A device that was read (`device`), or one that could not be (`failed`), with its link where that is known."""

    device: model.Device | None
    failed: model.FailedDevice | None
    link: model.Link | None
    peers: tuple[PeerRow, ...]


class Overview(NamedTuple):
    """Everything to show; `wall` is in seconds since the epoch, `hidden` are devices that the config leaves out."""

    wall: float
    devices: tuple[DeviceRow, ...]
    outcomes: tuple[model.Outcome, ...]
    problems: tuple[str, ...]
    hidden: tuple[str, ...] = ()


class NothingSelected(LookupError):  # noqa: N818 - says what happened; it is an answer for the user, not a fault
    """No device or peer matches what was asked for. The message is one line that says what there is."""


class Standing(IntEnum):
    """What one look says of a peer: FINE, DOUBT (an age that may mean something) or BROKEN (expected up and is not)."""

    FINE = 0
    DOUBT = 1
    BROKEN = 2


def standing(row: PeerRow, link: model.Link | None, wall: float) -> Standing:
    """Judge a peer by its age and its link; one that is not expected up is always FINE."""
    if not row.expected_up:
        return Standing.FINE
    age = words.handshake_age(row.peer.last_handshake_ns, wall)
    if age is None or (link is not None and not link.up):
        return Standing.BROKEN
    if age > _stale_after(row.peer):
        return Standing.BROKEN if row.peer.persistent_keepalive else Standing.DOUBT
    return Standing.FINE


def _stale_after(peer: model.Peer) -> int:
    """The age in seconds that a healthy peer with traffic does not reach."""
    return 180 + peer.persistent_keepalive + 20


# --- which part of it ---------------------------------------------------------------------------------------------


def _whose(row: DeviceRow) -> tuple[str, str]:
    """(netns, interface) of a row, whichever part of it there is."""
    known = row.device or row.failed or row.link
    return (known.netns, known.name) if known else ("", "?")


def select(overview: Overview, interface: str | None = None, peer: str | None = None) -> Overview:
    """The devices called `interface` and their peers whose name or key is `peer`, or whose key starts with it.

    Raises NothingSelected where nothing matches.
    """
    devices = overview.devices
    if not devices:
        raise NothingSelected(reason_when_empty(overview))
    if interface is not None:
        devices = tuple(row for row in devices if _whose(row)[1] == interface)
        if not devices:
            there = words.first_of(dict.fromkeys(_whose(row)[1] for row in overview.devices))
            raise NothingSelected(f"no WireGuard interface {words.plain(interface)}; there is: {there}")
    if peer is not None:
        devices = _with_peer(devices, peer)
    return overview._replace(devices=devices)


def _with_peer(devices: tuple[DeviceRow, ...], wanted: str) -> tuple[DeviceRow, ...]:
    tests: tuple[Callable[[PeerRow], bool], ...] = (
        lambda row: wanted in (row.name, row.peer.public_key),
        lambda row: bool(wanted) and row.peer.public_key.startswith(wanted),
    )
    for test in tests:
        kept = [row._replace(peers=tuple(filter(test, row.peers))) for row in devices]
        if any(row.peers for row in kept):
            return tuple(row for row in kept if row.peers)
    there = words.first_of(row.name for device in devices for row in device.peers) or "none"
    unread = words.first_of(_whose(row)[1] for row in devices if row.failed)
    where = words.first_of(dict.fromkeys(_whose(row)[1] for row in devices))
    raise NothingSelected(
        f"no peer {words.plain(wanted)} on {where}; there is: {there}"
        + (f" (could not read {unread})" if unread else "")
    )


def reason_when_empty(overview: Overview) -> str:
    """One line that says why there is nothing to show and what to do; empty if there is something."""
    if overview.devices:
        return ""
    failures = [outcome for outcome in overview.outcomes if not outcome.success]
    if any(_lacks_permission(outcome.problem) for outcome in failures):
        return f"no permission to read WireGuard devices: this needs CAP_NET_ADMIN; {_SUDO}"
    devices_unread = [outcome for outcome in failures if outcome.source not in ("links", "conf")]
    if devices_unread:
        first = devices_unread[0]
        return f"no WireGuard device could be read: {first.source}: {words.plain(first.problem)}"
    if overview.hidden:
        return (
            f"the configuration leaves out every WireGuard device there is ({words.first_of(overview.hidden)}); "
            "change `interfaces` in it"
        )
    return "no WireGuard device here; bring one up (wg-quick up wg0), or name its network namespace in `namespaces`"


def _lacks_permission(problem: str) -> bool:
    return any(sign in problem.lower() for sign in ("permission", "not permitted", "cap_"))


# --- for scripts --------------------------------------------------------------------------------------------------


def to_json(overview: Overview) -> str:
    """The overview as one JSON object; keys may be added later, none is removed or changes its meaning.

    `time` and `latest_handshake` are seconds since the epoch; a handshake is null if there was none, its age negative
    if a clock went back. What is not known is null, `name` too. `netns` is empty for the exporter's own namespace.
    A device that could not be read has `read_success` false, the reason in `problem`, and no peers. Only ASCII is
    written: names can't drive a terminal from here either.
    """
    document = {
        "time": overview.wall,
        "devices": [_device_json(row, overview.wall) for row in overview.devices],
        "sources": [
            {
                "source": outcome.source,
                "netns": outcome.netns,
                "success": outcome.success,
                "duration_seconds": outcome.duration,
                "problem": outcome.problem or None,
            }
            for outcome in overview.outcomes
        ],
        "problems": list(overview.problems),
    }
    return json.dumps(document, indent=2)


def _device_json(row: DeviceRow, wall: float) -> dict[str, object]:
    device, link = row.device, row.link
    backend = row.device or row.failed
    netns, name = _whose(row)
    counters = ("bytes", "packets", "errors", "dropped")
    return {
        "interface": name,
        "netns": netns,
        "backend": backend.backend if backend else None,
        "read_success": device is not None and device.fresh,
        "problem": row.failed.problem if row.failed else None,
        "public_key": (device.public_key or None) if device else None,
        "listen_port": device.listen_port if device else None,
        "fwmark": device.fwmark if device else None,
        "mtu": link.mtu if link else None,
        "up": link.up if link else None,
        **{f"receive_{what}": getattr(link, f"rx_{what}") if link else None for what in counters},
        **{f"transmit_{what}": getattr(link, f"tx_{what}") if link else None for what in counters},
        "peers": [_peer_json(peer, wall) for peer in row.peers],
    }


def _peer_json(row: PeerRow, wall: float) -> dict[str, object]:
    peer = row.peer
    handshake = peer.last_handshake_ns / 1e9 if peer.last_handshake_ns else None
    return {
        "public_key": peer.public_key,
        "name": row.name if row.named else None,
        "endpoint": peer.endpoint or None,
        "allowed_ips": list(peer.allowed_ips),
        "latest_handshake": handshake,
        "latest_handshake_age_seconds": None if handshake is None else round(wall - handshake, 3),
        "receive_bytes": peer.rx_bytes,
        "transmit_bytes": peer.tx_bytes,
        "persistent_keepalive_seconds": peer.persistent_keepalive,
        "expected_up": row.expected_up,
    }


# --- for people ---------------------------------------------------------------------------------------------------


class _Line(NamedTuple):
    """What the cells of one peer are made from. `before` is the same peer one reading ago, None if there was none."""

    row: PeerRow
    standing: Standing
    wall: float
    before: model.Peer | None
    seconds: float


class _Column(NamedTuple):
    """A column of the peers' table. `cell` gives text for at most so many characters, and the name of its style.

    Below `low` cells the column is left out; 0 means that its text can't be cut. With `whole` it gets room for its
    longest text or stays at `low`.
    """

    title: str
    cell: Callable[[_Line, int], tuple[str, str]]
    low: int = 0
    high: int = 60
    right: bool = False
    whole: bool = False


def _mark(line: _Line, _: int) -> tuple[str, str]:
    return ("!" if line.standing else ""), _ALARM[line.standing]


def _name(line: _Line, _: int) -> tuple[str, str]:
    return line.row.name, _ALARM[line.standing] or ("bold" if line.row.named else "")


def _handshake(line: _Line, _: int) -> tuple[str, str]:
    peer = line.row.peer
    text = words.handshake(peer.last_handshake_ns, line.wall)
    if line.standing:
        return text, _ALARM[line.standing]
    if text == words.NEVER:
        return text, "dim"
    if text == words.FUTURE:
        return text, "yellow"
    age = words.handshake_age(peer.last_handshake_ns, line.wall) or 0
    return text, "green" if age <= _stale_after(peer) else ""


def _rate(line: _Line, before: int | None, after: int) -> tuple[str, str]:
    text = "-" if before is None else words.rate(before, after, line.seconds)
    return text, "dim" if text in ("-", "0 B/s") else ""


def _key(line: _Line, width: int) -> tuple[str, str]:
    key = line.row.peer.public_key
    return (key if width >= len(key) else key[:8]), "dim"


def _keepalive(line: _Line, _: int) -> tuple[str, str]:
    seconds = line.row.peer.persistent_keepalive
    return (f"{seconds} s", "") if seconds else ("off", "dim")


_ALARM = {Standing.FINE: "", Standing.DOUBT: "yellow", Standing.BROKEN: "bold red"}

# In the order on the screen. Rates exist only while watching.
_COLUMNS: Mapping[str, _Column] = {
    "mark": _Column("", _mark),
    "name": _Column("peer", _name, low=12, high=48),
    "key": _Column("key", _key, low=8, whole=True),
    "handshake": _Column("latest handshake", _handshake),
    "rx": _Column("received", lambda line, _: (words.size(line.row.peer.rx_bytes), ""), right=True),
    "rx_rate": _Column(
        "receiving",
        lambda line, _: _rate(line, line.before and line.before.rx_bytes, line.row.peer.rx_bytes),
        right=True,
    ),
    "tx": _Column("sent", lambda line, _: (words.size(line.row.peer.tx_bytes), ""), right=True),
    "tx_rate": _Column(
        "sending", lambda line, _: _rate(line, line.before and line.before.tx_bytes, line.row.peer.tx_bytes), right=True
    ),
    "endpoint": _Column("endpoint", lambda line, _: (line.row.peer.endpoint or "-", ""), low=21),
    "allowed": _Column(
        "allowed IPs", lambda line, width: (words.some_of(line.row.peer.allowed_ips, width) or "-", ""), low=18
    ),
    "keepalive": _Column("keepalive", _keepalive, right=True),
    "expected": _Column("expected", lambda line, _: ("up", "") if line.row.expected_up else ("any", "dim")),
}
_NEEDED_FIRST = (
    "mark",
    "name",
    "handshake",
    "rx_rate",
    "tx_rate",
    "rx",
    "tx",
    "endpoint",
    "allowed",
    "keepalive",
    "expected",
    "key",
)


def _layout(lines: list[_Line], columns: Mapping[str, _Column], width: int, encoding: str) -> dict[str, int]:
    """How wide each column gets; those that are not in the answer have no room."""
    natural = {
        name: max(
            cell_len(text)
            for text in (column.title, *(words.plain(column.cell(line, column.high)[0], encoding) for line in lines))
        )
        for name, column in columns.items()
    }
    widths: dict[str, int] = {}
    names = {line.row.name for line in lines}
    # Two peers of one name are told apart by their keys, which then matter most.
    order = _NEEDED_FIRST if len(names) == len(lines) else (*_NEEDED_FIRST[:2], "key", *_NEEDED_FIRST[2:-1])
    for name in (name for name in order if name in columns):
        need = min(natural[name], columns[name].low or natural[name])
        if widths and sum(widths.values()) + _GAP * len(widths) + need > width:
            break
        widths[name] = need
    spare = width - sum(widths.values()) - _GAP * (len(widths) - 1)
    for name, narrow in widths.items():
        wish = min(natural[name], columns[name].high) - narrow
        grow = wish if wish <= spare else 0 if columns[name].whole else max(spare, 0)
        widths[name] = narrow + grow
        spare -= grow
    return widths


def _fit(text: str, width: int, encoding: str) -> str:
    """The text made plain and, where it is too long, cut with a visible end."""
    text = words.plain(text, encoding)
    if cell_len(text) <= width:
        return text
    end = "…" if encoding == "utf-8" else "~"
    return set_cell_size(text, max(width - 1, 0)).rstrip() + end


class _Screen:
    """An overview as rich prints it: in full or, with a `heading` (watching), cut to the height of the terminal."""

    def __init__(self, overview: Overview, previous: Overview | None, width: int | None, heading: str) -> None:
        self._overview = overview
        self._previous = previous
        self._width = width
        self._heading = heading

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        height = options.size.height if self._heading else None
        width = self._width or options.max_width
        options = options.update(width=width, height=None, no_wrap=True)
        encoding = "utf-8" if options.encoding.startswith("utf") else options.encoding
        if height is None:
            parts = [*self._devices(width, encoding, None), *self._verdict(encoding)]
        else:  # the top is what stays in view, so the summary comes first
            verdict = reversed([*self._verdict(encoding)])
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
        """The devices with their peers; `limit` is how many of each may be needed."""
        tables = [(row, self._lines(row, limit)) for row in self._overview.devices[:limit]]
        columns = {name: c for name, c in _COLUMNS.items() if self._previous or not name.endswith("_rate")}
        every = [line for _, lines in tables for line in lines]
        widths = _layout(every, columns, width, encoding)
        for row, lines in tables:
            yield from _heading(row, encoding)
            if lines:
                yield from _table(
                    lines, {name: (c, widths[name]) for name, c in columns.items() if name in widths}, encoding
                )
            yield Text("")
        left_out = [column.title for name, column in columns.items() if name not in widths]
        if every and left_out:
            yield Text(f"no room at {width} columns for: {', '.join(left_out)}", "dim")

    def _lines(self, row: DeviceRow, limit: int | None) -> list[_Line]:
        wall, before = self._overview.wall, self._previous
        known = [] if before is None else [old for old in before.devices if _whose(old) == _whose(row)]
        peers = {old.peer.public_key: old.peer for device in known for old in device.peers}
        seconds = wall - before.wall if before else 0.0
        return [
            _Line(peer, standing(peer, row.link, wall), wall, peers.get(peer.peer.public_key), seconds)
            for peer in row.peers[:limit]
        ]

    def _verdict(self, encoding: str) -> Iterator[Text]:
        """What is wrong, each thing in a line; in the last one (or first, watching) how the peers expected up are."""
        overview = self._overview

        def say(text: str, style: str) -> Text:
            return Text(words.plain(text, encoding), style)

        for problem in overview.problems:
            yield say(f"! {problem}", "yellow")
        if not overview.devices:
            yield say(reason_when_empty(overview), "bold yellow")
            return
        for outcome in overview.outcomes:
            if not outcome.success:
                where = f" in {outcome.netns}" if outcome.netns else ""
                yield say(f"! {outcome.source}{where}: {outcome.problem}", "bold red")
        unread = [_label(row) for row in overview.devices if not row.device]
        if unread:
            yield say(f"! {words.count(len(unread), 'device')} could not be read: {words.first_of(unread)}", "bold red")
        down = [_label(row) for row in overview.devices if row.link and not row.link.up]
        if down:
            yield say(f"! {words.count(len(down), 'device')} down: {words.first_of(down)}", "bold red")
        judged = [
            (row, peer, standing(peer, row.link, overview.wall)) for row in overview.devices for peer in row.peers
        ]
        doubts = [_who(row, peer, overview.wall) for row, peer, found in judged if found is Standing.DOUBT]
        broken = [_who(row, peer, overview.wall) for row, peer, found in judged if found is Standing.BROKEN]
        expected = sum(peer.expected_up for _, peer, _ in judged)
        if doubts:
            what = "expected up, quiet: idle or dead, without keepalive an age can't tell"
            yield say(f"! {words.count(len(doubts), 'peer')} {what}: {words.first_of(doubts)}", "yellow")
        total = f"{words.count(expected, 'peer')} expected up, {len(broken):,} not"
        if broken:
            yield say(f"! {total}: {words.first_of(broken)}", "bold red")
        else:
            yield say(total, "green" if expected else "dim")


def _wrapped(text: Text, console: Console, options: ConsoleOptions) -> list[list[Segment]]:
    """The lines of a text that may be longer than one: those after the first stand two cells further in."""
    indent = len(text.plain) - len(text.plain.lstrip()) + 2
    lines = []
    room = options.max_width if text.cell_len <= options.max_width else max(options.max_width - indent, 20)
    for index, line in enumerate(text.wrap(console, room)):
        line.rstrip()
        whole = Text(" " * indent if index else "").append_text(line)
        lines += console.render_lines(whole, options, pad=False)
    return lines


def _label(row: DeviceRow) -> str:
    netns, name = _whose(row)
    return f"{name} in {netns}" if netns else name


def _who(row: DeviceRow, peer: PeerRow, wall: float) -> str:
    return f"{peer.name} on {_label(row)} ({words.handshake(peer.peer.last_handshake_ns, wall)})"


def _table(lines: list[_Line], columns: Mapping[str, tuple[_Column, int]], encoding: str) -> Iterator[list[Segment]]:
    """The peers of one device, a line each, under the titles of the columns."""
    styles = {name: Style.parse(name) for name in ("", "dim", "bold", "bold red", "yellow", "green")}

    def line_of(cells: list[tuple[str, str, int, bool]]) -> list[Segment]:
        segments: list[Segment] = []
        owed = 0  # blanks are written only before text, so that no line ends in them
        for text, style, width, right in cells:
            blank = width - cell_len(text)
            if text:
                segments.append(Segment(" " * (owed + blank * right)))
                segments.append(Segment(text, styles[style]))
                owed = blank * (not right) + _GAP
            else:
                owed += width + _GAP
        return segments

    yield line_of(
        [(_fit(column.title, width, encoding), "dim", width, column.right) for column, width in columns.values()]
    )
    for line in lines:
        cells = []
        for column, width in columns.values():
            text, style = column.cell(line, width)
            cells.append((_fit(text, width, encoding), style, width, column.right))
        yield line_of(cells)


def _heading(row: DeviceRow, encoding: str) -> Iterator[Text]:
    """What is known of a device itself: one line, and more for its key and its counters."""
    device, failed, link = row.device, row.failed, row.link
    sound = device and (not link or link.up)
    head = Text("" if sound else "! ", "bold" if sound else "bold red").append(words.plain(_label(row), encoding))
    if link:
        head.append("  up" if link.up else "  DOWN", "not bold green" if link.up else "bold red")
    known = device or failed
    facts = [known.backend.value] if known else []
    if device:
        facts.append(f"port {device.listen_port}" if device.listen_port else "no port")
    if link:
        facts.append(f"MTU {link.mtu}")
    if device:
        facts.append(words.count(len(row.peers), "peer"))
    head.append("  " + "  ".join(facts), "not bold default")
    yield head
    if failed:
        problem = f"  {failed.problem}{_fix(failed)}"
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


def _fix(failed: model.FailedDevice) -> str:
    """What to do about a device that could not be read, where its problem does not say so itself."""
    problem = failed.problem.lower()
    if ";" in problem or "sudo" in problem:
        return ""
    if _lacks_permission(problem):
        return f"; this needs CAP_NET_ADMIN; {_SUDO}"
    if "refused" in problem:
        return "; its daemon is gone: start it again, or remove its socket"
    if "timed out" in problem or "in time" in problem:
        return "; its daemon does not answer: restart it"
    return f"; compare with: wg show {failed.name}"


def render(overview: Overview, *, width: int | None = None, previous: Overview | None = None) -> _Screen:
    """What rich prints for an overview: in `width` columns (by default the console's), with rates since `previous`."""
    return _Screen(overview, previous, width, "")


def console(file: TextIO | None = None) -> Console:
    """A console for `show`. One that is no terminal (a pipe, a file) is wide enough for every column, unless
    COLUMNS says otherwise: what `grep` looks for must be there."""
    found = Console(file=file or sys.stdout, highlight=False, markup=False, emoji=False)
    if not found.is_terminal and "COLUMNS" not in os.environ:
        found.width = PIPE_WIDTH
    return found


def watch(read: Callable[[], Overview], console: Console, interval: float, stop: Callable[[], bool]) -> None:
    """Show what `read` gives every `interval` seconds, with rates, until `stop()` is true or Ctrl-C is pressed.

    On a terminal in the alternate screen, which is left again whatever happens; elsewhere one below the other. What
    `read` raises is passed on.
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
    """Sleep until the monotonic time `due`, but look up ten times a second: for a stop, or a terminal of a new size."""
    size = console.size
    while (left := due - time.monotonic()) > 0 and not stop():
        time.sleep(min(left, 0.1))
        if console.is_terminal and console.size != size:
            size = console.size
            live.refresh()
