"""The table of peers that `wg-exporter show` draws: its columns, how wide each becomes, and its lines.

All devices have one layout, so that columns line up. A narrow terminal gets fewer columns; the least needed are left
out first. rich's own table is not used, as it takes 7 s for 10,000 peers, 15 times as long as these lines.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from rich.cells import cell_len, set_cell_size
from rich.segment import Segment
from rich.style import Style
from rich.text import Text

from wg_exporter.cli.show.overview import Standing
from wg_exporter.health.states import State
from wg_exporter.probed import Verdict
from wg_exporter.status import words
from wg_exporter.status.mtu import in_short

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from wg_exporter import model
    from wg_exporter.status.rows import PeerRow

_GAP = 2


class Line(NamedTuple):
    """What the cells of one peer are made from. `before` is the same peer one reading ago, None if there was none."""

    row: PeerRow
    standing: Standing
    wall: float
    before: model.Peer | None
    seconds: float


class Column(NamedTuple):
    """A column of the peers' table. `cell` gives text of at most the given number of characters, and its style's name.

    Widths are in cells. Where there is no room for `low`, the column is left out; 0 means that its text can't be cut.
    With `whole` it gets room for its longest text or stays at `low`.
    """

    title: str
    cell: Callable[[Line, int], tuple[str, str]]
    low: int = 0
    high: int = 60
    right: bool = False
    whole: bool = False


def _mark(line: Line, _: int) -> tuple[str, str]:
    return _MARKS.get(line.standing, "!"), _ALARM[line.standing]


def _name(line: Line, _: int) -> tuple[str, str]:
    return line.row.name, _ALARM[line.standing] or ("bold" if line.row.named else "")


def _state(line: Line, _: int) -> tuple[str, str]:
    state = line.row.health.state
    return state or _OPEN, _ALARM[line.standing] or ("green" if state is State.UP else "dim")


def _quiet(line: Line, _: int) -> tuple[str, str]:
    quiet = line.row.quiet
    return (words.until(quiet.until, line.wall), "cyan") if quiet else ("", "")


def _handshake(line: Line, _: int) -> tuple[str, str]:
    if line.row.gone:
        return _UNKNOWN, "dim"
    peer = line.row.peer
    text = words.handshake(peer.last_handshake_ns, line.wall)
    if line.standing:
        return text, _ALARM[line.standing]
    if text == words.NEVER:
        return text, "dim"
    if text == words.FUTURE:
        return text, "yellow"
    return text, "green" if line.row.health.state is State.UP else ""


def _bytes(line: Line, number: int) -> tuple[str, str]:
    return (_UNKNOWN, "dim") if line.row.gone else (words.size(number), "")


def _packets(line: Line, direction: int) -> tuple[str, str]:
    packets = line.row.packets
    return (_UNKNOWN, "dim") if packets is None else (f"{packets[direction]:,}", "")


def _rate(line: Line, before: int | None, after: int) -> tuple[str, str]:
    unknown = before is None or line.row.gone
    text = _UNKNOWN if unknown else words.rate(before or 0, after, line.seconds)
    return text, "dim" if text in (_UNKNOWN, "0 B/s") else ""


def _key(line: Line, width: int) -> tuple[str, str]:
    key = line.row.peer.public_key
    return (key if width >= len(key) else key[:8]), "dim"


def _keepalive(line: Line, _: int) -> tuple[str, str]:
    if line.row.gone:
        return _UNKNOWN, "dim"
    seconds = line.row.peer.persistent_keepalive
    return (f"{seconds} s", "") if seconds else ("off", "dim")


def _round_trip(line: Line, _: int) -> tuple[str, str]:
    rtt = line.row.window and line.row.window.rtt
    return (_UNKNOWN, "dim") if rtt is None else (words.milliseconds(rtt), "")


def _loss(line: Line, _: int) -> tuple[str, str]:
    window = line.row.window
    if window is None:
        return _UNKNOWN, "dim"
    return words.loss(window.loss), "yellow" if window.loss else ""


def _fast(line: Line, _: int) -> tuple[str, str]:
    fast = line.row.fast
    if fast is None or fast.up is None:
        return (_UNKNOWN if fast is None else _OPEN), "dim"
    return ("up", "green") if fast.up else ("down", "yellow")


def _mtu(line: Line, _: int) -> tuple[str, str]:
    mtu = line.row.mtu
    if mtu is None:
        return _UNKNOWN, "dim"
    return in_short(mtu.verdict, mtu.recommended), "green" if mtu.verdict is Verdict.OK else "yellow"


_UNKNOWN = "-"
_OPEN = "?"
_MARKS = {Standing.FINE: "", Standing.QUIET: "~"}
_ALARM = {
    Standing.FINE: "",
    Standing.QUIET: "cyan",
    Standing.DOUBT: "yellow",
    Standing.DEGRADED: "yellow",
    Standing.BROKEN: "bold red",
}

# In the order on the screen. Rates are shown only with `--watch`, reasons, causes, packets, fast echoes and what probes
# show only if a peer has one.
# Round trip and loss are those of now: a peer that is down or silent has none.
COLUMNS: Mapping[str, Column] = {
    "mark": Column("", _mark),
    "name": Column("peer", _name, low=12, high=48),
    "key": Column("key", _key, low=8, whole=True),
    "state": Column("state", _state),
    "reason": Column("reason", lambda line, _: (line.row.health.reason or "", _ALARM[line.standing])),
    "cause": Column("cause", lambda line, _: (line.row.cause.cause if line.row.cause else "", _ALARM[line.standing])),
    "quiet": Column("quiet until", _quiet),
    "handshake": Column("latest handshake", _handshake),
    "rx": Column("received", lambda line, _: _bytes(line, line.row.peer.rx_bytes), right=True),
    "rx_rate": Column(
        "receiving",
        lambda line, _: _rate(line, line.before and line.before.rx_bytes, line.row.peer.rx_bytes),
        right=True,
    ),
    "rx_packets": Column("packets in", lambda line, _: _packets(line, 0), right=True),
    "tx": Column("sent", lambda line, _: _bytes(line, line.row.peer.tx_bytes), right=True),
    "tx_rate": Column(
        "sending", lambda line, _: _rate(line, line.before and line.before.tx_bytes, line.row.peer.tx_bytes), right=True
    ),
    "tx_packets": Column("packets out", lambda line, _: _packets(line, 1), right=True),
    "endpoint": Column("endpoint", lambda line, _: (line.row.peer.endpoint or "-", ""), low=21),
    "allowed": Column(
        "allowed IPs", lambda line, width: (words.some_of(line.row.peer.allowed_ips, width) or "-", ""), low=15
    ),
    "rtt": Column("round trip", _round_trip, right=True),
    "loss": Column("loss", _loss, right=True),
    "fast": Column("fast", _fast),
    "mtu": Column("MTU", _mtu),
    "keepalive": Column("keepalive", _keepalive, right=True),
    "expected": Column("expected", lambda line, _: ("up", "") if line.row.expected_up else ("any", "dim")),
}
_NEEDED_FIRST = (
    "mark",
    "name",
    "state",
    "quiet",
    "handshake",
    "reason",
    "fast",
    "rx_rate",
    "tx_rate",
    "expected",
    "endpoint",
    "cause",
    "rx",
    "tx",
    "rx_packets",
    "tx_packets",
    "rtt",
    "loss",
    "mtu",
    "allowed",
    "keepalive",
    "key",
)


# The second is there wherever the first is: one direction alone would look like all there is.
_TOGETHER = {"rx_packets": "tx_packets"}


def layout(lines: list[Line], columns: Mapping[str, Column], width: int, encoding: str) -> dict[str, int]:
    """The width in cells of each column that has room."""
    natural = {
        name: max(
            cell_len(text)
            for text in (column.title, *(words.plain(column.cell(line, column.high)[0], encoding) for line in lines))
        )
        for name, column in columns.items()
    }
    widths: dict[str, int] = {}
    names = {line.row.name for line in lines}
    # Peers with the same name are told apart by their keys, so then these are needed.
    order = _NEEDED_FIRST if len(names) == len(lines) else (*_NEEDED_FIRST[:2], "key", *_NEEDED_FIRST[2:-1])
    for name in (name for name in order if name in columns):
        need = min(natural[name], columns[name].low or natural[name])
        other = _TOGETHER.get(name, "")  # it has no low: numbers can't be cut
        room = need + (_GAP + natural[other] if other in columns else 0)
        if widths and sum(widths.values()) + _GAP * len(widths) + room > width:
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


def beneath(line: Line, columns: Sequence[Column], encoding: str) -> Iterator[Text]:
    """What the columns that have no room say of the only peer, as a line; none if they say nothing."""
    cells = ((column.title, column.cell(line, column.high)[0]) for column in columns)
    said = [f"{title} {text}" for title, text in cells if text not in {"", _UNKNOWN}]
    if said:
        yield Text(words.plain(f"  {', '.join(said)}", encoding), "dim")


def draw(lines: list[Line], columns: Mapping[str, tuple[Column, int]], encoding: str) -> Iterator[list[Segment]]:
    """The peers of one device, a line each, under the titles of the columns."""
    styles = {name: Style.parse(name) for name in ("", "dim", "bold", "bold red", "yellow", "green", "cyan")}

    def line_of(cells: list[tuple[str, str, int, bool]]) -> list[Segment]:
        segments: list[Segment] = []
        owed = 0  # blanks that are written only if text follows, so that no line ends in blanks
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
