"""The course of a diagnosis: look, watch, send one packet, wait until enough is known, decide.

Everything has a time after which it is not waited for, and all together end within `ALL` seconds. Nothing of the host is
changed: sockets are closed at the end, and what is sent are a few echoes.

This thread sends and receives, many times a second. What may take long (reading the devices, rules, names) is looked at
in threads of their own (`host`), and what is not there at the end is not known.
"""

from __future__ import annotations

import time
from contextlib import ExitStack, closing
from ipaddress import ip_address
from typing import TYPE_CHECKING, NamedTuple

from wg_exporter.causes import facts as rows
from wg_exporter.causes.decide import decide
from wg_exporter.cli.diagnose import assemble, host, progress
from wg_exporter.cli.diagnose.assemble import Known, peer_in
from wg_exporter.cli.diagnose.echoes import INTERVAL, Outside, Probing
from wg_exporter.cli.diagnose.enough import Progress, enough
from wg_exporter.cli.diagnose.filtering import filters
from wg_exporter.cli.diagnose.result import Result
from wg_exporter.cli.diagnose.wire import Wire
from wg_exporter.model import Backend
from wg_exporter.prober.wire.netns import Namespaces
from wg_exporter.sighted import WatchPeer

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from wg_exporter.causes.cause import Finding
    from wg_exporter.causes.facts import Facts, Opened
    from wg_exporter.cli.diagnose.choice import Chosen
    from wg_exporter.config import Config
    from wg_exporter.inspected import Inspected
    from wg_exporter.model import Snapshot

ALL = 19.0  # seconds for everything, from the command on
FIRST_LOOKS = 1.5  # seconds until the first packet, for what has to be read before it
LAST_LOOKS = 0.8  # and after the last one
ROUND = 0.02  # seconds between two rounds
DECIDE = 0.2  # between two decisions
OTHERS_AFTER = 1.2  # seconds without an answer, after which other addresses are asked
DEVICES, RULES, ROUTES = 0.4, 0.7, 0.5  # seconds between two readings


class Options(NamedTuple):
    """What the user asked for."""

    decrypt: bool = True
    pcap: Path | None = None
    packets: bool = False


class Diagnosis:
    """One of them. `began` is when the command was given, in monotonic seconds."""

    def __init__(
        self,
        chosen: Chosen,
        config: Config,
        look: Callable[[], Snapshot],
        inspect: Callable[[], Inspected | None],
        tell: Callable[[float, str], None],
        *,
        began: float,
        options: Options = Options(),  # noqa: B008 - a row, immutable
        names: dict[str, str] | None = None,
        others_expected: int = 0,
    ) -> None:
        self._chosen, self._config, self._options = chosen, config, options
        self._look, self._inspect, self._tell, self._began = look, inspect, tell, began
        self._names, self._others_expected = names or {}, others_expected
        self._paths = {place.name: place.path for place in config.namespaces}
        self._not_looked: list[str] = []
        self._told: frozenset[str] = frozenset()
        self._opened: dict[bytes, Opened] = {}
        self._opening: host.Job[list[Opened | None]] | None = None
        self._asked_to_open: set[bytes] = set()
        self._handshakes = 0
        self._seen_peer = None

    def run(self) -> Result:
        """Look, and decide. Raises CaptureError."""
        chosen = self._chosen
        with ExitStack() as stack:
            ...
        raise NotImplementedError
