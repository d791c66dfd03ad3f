"""Where the names stand in one file, over, under or inside the sections of their peers, and so which is whose.

    # over            the gap: from the last line of the section above to the header
    [Peer]
    # under           the block that touches the header, or stands behind it on its line
    PublicKey = ...
    # inside
    AllowedIPs = ...

A comment in a gap may speak of the peer above or of the one below, and no rule for all files can tell: some people
write `# friendly_name` over each `[Peer]` and some at the end of each section, without a blank line in either. But
whoever writes a file writes it in one way. So a file is taken in as a whole first (`FileComments`). Then the first peer
of which there is no doubt decides where its names stand, once for each of three ways to name: friendly names, the lines
of managers and bare comments. Then the comments are handed out.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING

from wg_exporter.conffile.comments import Comment, CommentKind, bare_name, usable

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

# Bounds on what a hostile or broken file can cost.
_BLOCK_LINES = 64
_GAP_BLOCKS = 64
_PAIRS = 100_000

_FRIENDLY = (CommentKind.FRIENDLY_NAME, CommentKind.FRIENDLY_JSON)
_LABELS = (CommentKind.LABEL, CommentKind.OPENING)
_BARE = (CommentKind.BARE,)


class _Place(Enum):
    """Where names stand that say of themselves that they are names."""

    OVER = "over"
    INSIDE = "inside"


@dataclass(slots=True)
class _Block:
    """Comments without a blank line between them, top first. `above` and `below`: it touches the section, the header.

    `ended`: a mark of the end of the peer above stands below it. `off`: a header that is commented out stands below it.
    `stale`: one stands above it, so it says nothing of the peer above.
    """

    above: bool = False
    below: bool = False
    ended: bool = False
    off: bool = False
    stale: bool = False
    comments: list[Comment] = field(default_factory=list)

    def of(self, kinds: Sequence[CommentKind]) -> list[Comment]:
        return [comment for comment in self.comments if comment.kind in kinds]

    def undirected(self, kinds: Sequence[CommentKind]) -> list[Comment]:
        """Those that may be of the peer above, which an opening never is."""
        return [comment for comment in self.of(kinds) if comment.kind is not CommentKind.OPENING]


@dataclass(slots=True)
class _Peer:
    """The comments around one [Peer].

    `gap` stands over its header, after the peer `above`. `under` and `inside` are the bare comments of its section,
    those at its header apart. `named` are the friendly names and labels that are its own.
    """

    above: _Peer | None = None
    gap: list[_Block] = field(default_factory=list)
    under: list[Comment] = field(default_factory=list)
    inside: list[Comment] = field(default_factory=list)
    named: list[Comment] = field(default_factory=list)

    def has(self, kinds: Sequence[CommentKind]) -> bool:
        return any(comment.kind in kinds for comment in self.named)

    def keep(self, block: _Block, *, under: bool, opening: bool = True) -> None:
        """Take in a block that stands in the section of the peer; an opening only if it cannot be of another one."""
        bare = self.under if under else self.inside
        bare += block.of(_BARE)[: max(_BLOCK_LINES - len(bare), 0)]
        names = (*_FRIENDLY, *_LABELS)
        self.named += block.of(names) if opening else block.undirected(names)

    def over(self) -> list[Comment]:
        """The bare comments right over the header, nearest first."""
        return self.gap[-1].of(_BARE)[::-1] if self.gap and self.gap[-1].below else []


class FileComments:
    """Takes in the lines of one file from top to bottom; `names` then gives the name of each [Peer], in their order.

    A friendly name must have been cleaned before, since only the reader of the file can report one that is refused.
    """

    def __init__(self) -> None:
        self._peers: list[_Peer] = []
        self._section: _Peer | None = None
        self._gap: list[_Block] = []
        self._at_header = True
        self._touches = True
        self._fresh = True
        self._stale = False
        self._after_off = False
        self._before_off: list[tuple[_Peer, _Block]] = []
        self._opened: set[str] = set()
        self._closed: set[str] = set()

    @property
    def switched_off(self) -> bool:
        """Whether the next comment belongs to a section that is commented out."""
        return self._after_off

    def comment(self, comment: Comment) -> None:
        """Take in one comment."""
        if comment.opens and len(self._opened) < _PAIRS:
            self._opened.add(comment.opens)
        if comment.closes and comment.closes in self._opened:
            self._closed.add(comment.closes)
            comment = Comment(CommentKind.END)
        if comment.kind is CommentKind.END or comment.kind is CommentKind.OFF:
            self._mark(off=comment.kind is CommentKind.OFF)
            return
        if self._fresh:
            self._gap.append(_Block(above=self._touches, stale=self._stale))
            self._fresh = False
            if len(self._gap) > _GAP_BLOCKS:
                del self._gap[1]
        comments = self._gap[-1].comments
        if self._after_off:
            # Nothing but the very last line can still speak of the next peer where one is commented out.
            comments.clear()
        comments.append(comment)
        if len(comments) > 2 * _BLOCK_LINES:
            self._shorten(comments)

    def blank(self) -> None:
        """A blank line."""
        self._fresh = True
        self._touches = self._after_off = False

    def setting(self) -> None:
        """A line that is a setting: what stands above it is of its section."""
        self._end_gap(goes_on=True)

    def section(self, *, peer: bool, remark: Comment | None = None) -> None:
        """The header of a section, with the comment behind it on its line."""
        if not peer:
            self._end_gap()
            self._section = None
        else:
            if self._section is not None and self._at_header and self._gap and self._gap[0].above:
                self._section.keep(self._gap.pop(0), under=True)
            if self._gap and not self._fresh:
                self._gap[-1].below = True
            self._section = _Peer(above=self._section, gap=self._gap)
            self._peers.append(self._section)
            if remark is not None:
                self._section.keep(_Block(comments=[remark]), under=True)
        self._begin_gap(at_header=True)

    def names(self) -> list[str]:
        """The name of each peer, empty where it has none."""
        # Under the last [Peer] there is no peer below.
        self._end_gap()
        self._settle_pairs()
        for kinds in (_FRIENDLY, _LABELS):
            place = _place_of(kinds, self._peers)
            for peer in self._peers:
                _hand_out(kinds, peer, place)
            for peer, block in self._before_off:
                if block.above and place is not _Place.OVER and not peer.has(kinds):
                    peer.named += block.undirected(kinds)
        given = [_given_name(peer) for peer in self._peers]
        unnamed = [peer for peer, name in zip(self._peers, given, strict=True) if name is None]
        bare = iter(_bare_names(unnamed, alone=len(unnamed) == len(given)))
        return [next(bare) if name is None else name for name in given]

    def labels(self) -> list[tuple[tuple[str, str], ...]]:
        """The labels of each peer, to be asked for after the names: those of its last `friendly_json`."""
        return [
            next((one.labels for one in reversed(peer.named) if one.kind is CommentKind.FRIENDLY_JSON), ())
            for peer in self._peers
        ]

    def _settle_pairs(self) -> None:
        """Make those openings whose other half was found."""
        for block in (block for peer in self._peers for block in peer.gap):
            block.comments = [
                Comment(CommentKind.OPENING, comment.opens) if comment.opens in self._closed else comment
                for comment in block.comments
            ]

    def _begin_gap(self, *, at_header: bool) -> None:
        self._gap = []
        self._at_header = at_header
        self._touches = self._fresh = True
        self._stale = self._after_off = False

    def _end_gap(self, *, goes_on: bool = False) -> None:
        """What was collected stands in the section, which goes on or ends without another [Peer] below."""
        if self._section is not None:
            for block in self._gap:
                under = self._at_header and block.above
                if block.off and not (under or goes_on):
                    self._before_off.append((self._section, block))
                elif not block.stale:
                    self._section.keep(block, under=under, opening=under or (goes_on and not block.ended))
        self._begin_gap(at_header=False)

    def _mark(self, *, off: bool) -> None:
        for block in self._gap:
            block.ended = True
        if off and self._gap and not self._fresh:
            self._gap[-1].off = True
        self._stale = self._after_off = off
        self._fresh = True
        self._touches = False

    def _shorten(self, comments: list[Comment]) -> None:
        """Drop those farthest from their header, but keep the last friendly names, which count from anywhere."""
        friendly = {comment.kind: comment for comment in comments if comment.kind in _FRIENDLY}
        others = [comment for comment in comments if comment.kind not in _FRIENDLY]
        under = self._section is not None and self._at_header and self._gap[-1].above
        comments[:] = [*friendly.values(), *(others[:_BLOCK_LINES] if under else others[-_BLOCK_LINES:])]


def _place_of(kinds: Sequence[CommentKind], peers: Sequence[_Peer]) -> _Place | None:
    """Where names of these kinds stand in the file, by the first of which there is no doubt; None without any."""
    for peer in peers:
        if peer.has(kinds):
            return _Place.INSIDE
        for block in peer.gap:
            if block.ended or block.stale or not block.undirected(kinds):
                continue
            # Over the first [Peer] there is no peer above, but what touches only the settings there may be of them.
            if peer.above is None and (block.below or not block.above):
                return _Place.OVER
            if peer.above is not None and block.above != block.below:
                return _Place.OVER if block.below else _Place.INSIDE
    return None


def _hand_out(kinds: Sequence[CommentKind], peer: _Peer, place: _Place | None) -> None:
    """Share out the names of these kinds in the gap over the peer between it and the peer above."""
    has_own = peer.has(kinds)
    below: list[Comment] = []
    for block in peer.gap:
        if not block.ended:
            below += [comment for comment in block.of(kinds) if comment.kind is CommentKind.OPENING]
        owner = _owner(block, peer, place)
        # One name is enough: a second one of the peer above is the name of a peer that has none.
        if owner is not None and owner is peer.above and not (block.ended or has_own) and owner.has(kinds):
            owner = peer
        if owner is peer and not has_own:
            below += block.undirected(kinds)
        elif owner is not None and owner is not peer:
            owner.named += block.undirected(kinds)
    # The nearest label counts, and the last friendly name.
    peer.named += below[::-1] if kinds is _LABELS else below


def _owner(block: _Block, peer: _Peer, place: _Place | None) -> _Peer | None:
    """Whose names stand in this block of the gap over the peer: its own, those of the peer above, or nobody's."""
    if block.ended:
        return None if block.off and (place is _Place.OVER or not block.above) else peer.above
    if block.stale:
        return peer if block.below else None
    if peer.above is None or place is _Place.OVER:
        return peer
    return peer if place is None and block.below and not block.above else peer.above


def _given_name(peer: _Peer) -> str | None:
    """The name by friendly names and labels; None if there is neither, so that a bare comment may be the name."""
    for kind in _FRIENDLY:
        friendly = next((comment.text for comment in reversed(peer.named) if comment.kind is kind), "")
        if friendly:
            return friendly
    labels = [comment.text for comment in peer.named if comment.kind in _LABELS]
    return next(filter(None, map(usable, labels)), "") if labels else None


def _bare_names(peers: Sequence[_Peer], *, alone: bool) -> list[str]:
    """The names in the bare comments of the peers that have no other; `alone` if these are all peers of the file."""
    over = [_first_name(peer.over()) for peer in peers]
    under = [_first_name(peer.under) for peer in peers]
    if alone and len(peers) > 1:
        # Comments that touch no header are mostly notes. Where each peer has one of its own, they are names.
        apart = [_name_apart(peer) for peer in peers]
        if not any(under) and _name_all(apart):
            return apart
        if not (over[0] or any(under)):
            inside = [_name_inside(peer, below) for peer, below in zip(peers, [*peers[1:], None], strict=True)]
            if _name_all(inside):
                return inside
    for peer, above, below in zip(peers, over, under, strict=True):
        if below and not above:
            return under
        if above and not below and (peer.above is None or not peer.gap[-1].above):
            return [name or other for name, other in zip(over, under, strict=True)]
    return [name or other for name, other in zip(under, over, strict=True)]


def _name_all(names: Sequence[str]) -> bool:
    return all(names) and len(set(names)) == len(names)


def _first_name(comments: Iterable[Comment]) -> str:
    return next(filter(None, (bare_name(comment.text) for comment in comments)), "")


def _name_apart(peer: _Peer) -> str:
    """The name in the gap that a blank line parts from the header, notes below it or not."""
    blocks = (block for block in peer.gap if not (block.ended or block.stale))
    first = next((block for block in blocks if peer.above is None or not block.above), None)
    return _first_name(first.of(_BARE)) if first is not None and not first.below else ""


def _name_inside(peer: _Peer, below: _Peer | None) -> str:
    """The name between two settings of the peer, or right under the last."""
    gap = below.gap if below is not None and below.above is peer else []
    return _first_name([*peer.inside, *(gap[0].of(_BARE) if gap and gap[0].above else [])])
