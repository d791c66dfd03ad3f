"""What this process may do: as the kernel says (proc(5), CapEff), and as the sources found."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from wg_exporter.linux.privileges import CAP_NET_ADMIN, CAP_SYS_ADMIN, effective
from wg_exporter.model import SourceName

if TYPE_CHECKING:
    from collections.abc import Sequence

    from wg_exporter.model import Outcome

_UAPI_DIRECTORY = Path("/var/run/wireguard")


def capabilities(outcomes: Sequence[Outcome]) -> tuple[tuple[str, bool], ...]:
    """(name, able) of all that reading takes; without /proc nobody knows some, so they are absent."""
    works = {outcome.source: outcome.success for outcome in outcomes if not outcome.netns}
    uapi = works.get(SourceName.USERSPACE, False) and (os.geteuid() == 0 or os.access(_UAPI_DIRECTORY, os.R_OK))
    found = (("uapi", uapi), ("conf_read", works.get(SourceName.CONF, False)))
    held = effective()
    if held is None:
        return found
    return (("net_admin", CAP_NET_ADMIN in held), *found, ("netns", CAP_SYS_ADMIN in held))
