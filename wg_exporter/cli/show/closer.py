"""What `wg-exporter show` says below the table about a peer that is the only one on the screen."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from rich.text import Text

from wg_exporter.cli.show.events import lines
from wg_exporter.cli.show.overview import fast_of, probing_of
from wg_exporter.health.advice import advice
from wg_exporter.status import host_name, words
from wg_exporter.status.cause import in_a_line
from wg_exporter.status.mtu import told
from wg_exporter.status.rows import whose

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from wg_exporter.causes.cause import Finding
    from wg_exporter.events import Event
    from wg_exporter.status.rows import DeviceRow, PeerRow


def closer(  # noqa: PLR0917
    row: DeviceRow,
    peer: PeerRow,
    config_file: str,
    wall: float,
    encoding: str,
    events: Sequence[Event],
) -> Iterator[Text]:
    """More lines about a peer; `events` are its last ones, `wall` is now (seconds since the epoch)."""
    health = peer.health
    name = peer.name if peer.named else peer.peer.public_key
    if health.reason:
        # What was seen is told as it was then: "34 s ago" is not of now.
        since = f" ({words.seen(at, wall)})" if (at := health.reason_at or health.changed_at) else ""
        yield Text(words.plain(f"  {health.reason}: {health.evidence}{since}", encoding), "bold")
        todo = advice(health.reason, whose(row)[1], name, config_file, row.entry)
        # That is the command which was given, perhaps in other words.
        todo = todo.replace(f"`wg-exporter show {shlex.quote(whose(row)[1])} {shlex.quote(name)}`", "this output")
        for line in () if peer.cause and peer.cause.fix else (todo,):
            yield Text(words.plain(f"  {line}", encoding))
    if peer.cause:
        yield from _cause(peer.cause, encoding)
    if fast := fast_of(peer):
        yield Text(words.plain(f"  {fast}", encoding), "" if peer.fast and peer.fast.up else "yellow")
    if peer.host_name:
        device = whose(row)[1]
        if found := host_name.told(peer.host_name, device, peer.peer.public_key):
            yield Text(words.plain(f"  {found}", encoding), "yellow")
        elif peer.host_name.addresses:
            line = f"  the host name in its file, {peer.host_name.name}, resolves to the endpoint in use"
            yield Text(words.plain(line, encoding), "dim")
    if peer.quiet:
        since = words.ago(int(wall - peer.quiet.since))
        whole = "" if peer.quiet.public_key else "with the whole interface, "
        why = f": {peer.quiet.reason}" if peer.quiet.reason else ""
        line = f"  quiet, {whole}until {words.until(peer.quiet.until, wall)}, begun {since}{why}"
        yield Text(words.plain(line, encoding), "cyan")
    if peer.mtu:
        found = told(peer.mtu, whose(row)[1], peer.aim.target if peer.aim else "", row.entry)
        yield Text(words.plain(f"  {found}", encoding))
    if probing := probing_of(peer):
        yield Text(words.plain(f"  {probing}", encoding), "dim")
    yield from lines(events, whose(row)[1], name, encoding)


def _cause(found: Finding, encoding: str) -> Iterator[Text]:
    line = in_a_line(found.cause, found.confidence, found.evidence, found.also)
    yield Text(words.plain(f"  {line}", encoding), "bold")
    for fix in found.fix:
        yield Text(words.plain(f"  {fix}", encoding))
    if found.uncertain:
        yield Text(words.plain(f"  {found.uncertain}", encoding), "dim")
    if found.excluded:
        excluded = "; ".join(f"{cause}: {why}" for cause, why in found.excluded)
        yield Text(words.plain(f"  excluded: {excluded}", encoding), "dim")
