"""What the exporter says of itself: its version and host, what it may do, and how the last reload went."""

from __future__ import annotations

import os.path
import platform
from typing import TYPE_CHECKING

from wg_exporter import __version__
from wg_exporter.config import fingerprint
from wg_exporter.exposition.view import ExporterFacts
from wg_exporter.linux.privileges import CAP_NET_RAW, effective
from wg_exporter.status.rows import Teller

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from wg_exporter.config import Config


class About:
    """Times are seconds since the epoch."""

    def __init__(
        self,
        config_path: Path | None,
        started: float,
        net_raw: bool | None,  # noqa: FBT001
        storage: Callable[[], str],
        track_files: Callable[[], tuple[str, str]],
    ) -> None:
        """`net_raw` says whether probes can be sent, None = as this process may. `storage` says why nothing survives a
        restart, `track_files` where these are, and why they can't be written: each empty if there is nothing to say.
        """
        self._storage, self._track_files = storage, track_files
        held = effective()
        self._net_raw = CAP_NET_RAW in held if net_raw is None and held is not None else net_raw
        path = os.path.abspath(str(config_path)) if config_path else ""  # noqa: PTH100 - links stay as they are
        self._teller = Teller(__version__, platform.node(), path, started)
        self._reload_successful = True
        self._reloaded_at = started

    def reloaded(self, at: float) -> None:
        """A new configuration is in use."""
        self._reload_successful, self._reloaded_at = True, at

    def refused(self) -> None:
        """The configuration could not be read again; the old one stays in use."""
        self._reload_successful = False

    def teller(self, config: Config) -> Teller:
        """For the status document; `config` is in use."""
        directory, problem = self._track_files()
        return self._teller._replace(
            fingerprint=fingerprint(config),
            reload_successful=self._reload_successful,
            storage_problem=self._storage(),
            track_files=directory,
            track_files_problem=problem,
        )

    def facts(self, capabilities: tuple[tuple[str, bool], ...], clock_steps: int) -> ExporterFacts:
        """For the metrics; `capabilities` are those of whoever reads."""
        if self._net_raw is not None:
            capabilities = (*capabilities, ("net_raw", self._net_raw))
        return ExporterFacts(
            __version__,
            platform.python_version(),
            self._reload_successful,
            self._reloaded_at,
            capabilities,
            clock_steps,
        )
