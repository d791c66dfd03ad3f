"""Which peers are quiet, as samples: of those alone, so that it costs nothing while nobody is.

A peer that is quiet by name has its sample also while it is not known, as nobody can read its device: what is said of
it then comes from before, and must not page. Like all lines of peers they are kept while nothing changes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from wg_exporter import catalogue as c
from wg_exporter.exposition.fields import peer_labels
from wg_exporter.exposition.parts import Field, Rows, Section, Source
from wg_exporter.names.identity import PeerMeta

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from wg_exporter.exposition.parts import Keep
    from wg_exporter.exposition.view import View
    from wg_exporter.model import DeviceKey
    from wg_exporter.quiet import QuietNow

_FIELDS = (Field(c.PEER_QUIET, peer_labels, PeerMeta, ("named",), lambda _named: 1),)
_NONE: tuple[()] = ()

_Columns = tuple["Sequence[str]", "Sequence[PeerMeta]"]


def quiet_peers(view: View) -> Section:
    """The peers that page nobody."""
    return Section(_FIELDS, [*_sources(view)] if view.quiet else [])


def _sources(view: View) -> Iterator[Source]:
    there: dict[DeviceKey, _Columns] = {
        (row.device.netns, row.device.name): (row.device.peers.public_key, row.metas) for row in view.devices
    }
    gone: dict[DeviceKey, _Columns] = {(row.netns, row.name): (row.public_key, row.metas) for row in view.gone}
    lacking: dict[DeviceKey, _Columns] = {(row.netns, row.name): (row.public_key, row.metas) for row in view.lacking}
    for device in view.quiet.devices:
        columns = [columns for known in (there, gone, lacking) for columns in known.get(device, (_NONE, _NONE))]
        yield Source(*device, _quiet_peers, (view.quiet, *columns, device))


def _quiet_peers(  # noqa: PLR0917 - a `Source` makes rows of these, in this order
    _keep: Keep,
    quiet: QuietNow,
    there: Sequence[str],
    metas: Sequence[PeerMeta],
    gone: Sequence[str],
    gone_metas: Sequence[PeerMeta],
    lacking: Sequence[str],
    lacking_metas: Sequence[PeerMeta],
    device: DeviceKey,
) -> Rows:
    known = {**_zipped(lacking, lacking_metas), **_zipped(gone, gone_metas), **_zipped(there, metas)}
    found = {one.public_key: PeerMeta(one.name, True, False) for one in quiet.all if one.device == device}  # noqa: FBT003
    found.pop("", None)
    found |= {key: known[key] for key in (known if quiet.interface(device) else found.keys() & known.keys())}
    return Rows((tuple(found), tuple(found.values())), {PeerMeta: tuple(found.values())})


def _zipped(keys: Sequence[str], metas: Sequence[PeerMeta]) -> dict[str, PeerMeta]:
    return dict(zip(keys, metas, strict=True))
