"""Who is up and who is down by fast echoes, as samples: few, and none of a peer of which that is not known."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING

from wg_exporter import catalogue as c
from wg_exporter.exposition.fields import echo_labels
from wg_exporter.exposition.parts import Sample

if TYPE_CHECKING:
    from collections.abc import Iterator, Set

    from wg_exporter.exposition.view import View
    from wg_exporter.names.identity import PeerMeta


def fast_samples(view: View) -> Iterator[Sample]:
    """Those of the peers that are there, that are gone with their devices, and that their devices lack."""
    for (netns, name), states in view.fast.items():
        metas = dict(_metas(view, netns, name, states.keys()))
        for key, row in states.items():
            if row.up is not None and row.target and (meta := metas.get(key)) is not None:
                labels = echo_labels(name, key, meta, row.target)
                yield Sample(c.PROBE_FAST_UP, (*labels, ("netns", netns)) if netns else labels, int(row.up))


def _metas(view: View, netns: str, name: str, wanted: Set[str]) -> Iterator[tuple[str, PeerMeta]]:
    for gone in chain(view.gone, view.lacking):
        if (gone.netns, gone.name) == (netns, name):
            yield from (pair for pair in zip(gone.public_key, gone.metas, strict=True) if pair[0] in wanted)
    for row in view.devices:
        if (row.device.netns, row.device.name) == (netns, name):
            yield from (pair for pair in zip(row.device.peers.public_key, row.metas, strict=True) if pair[0] in wanted)
