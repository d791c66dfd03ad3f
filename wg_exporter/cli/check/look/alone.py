"""Facts of files alone, for whatever host they are, and what is known of time. It imports little: automation waits."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import wg_exporter
from wg_exporter.cli.check.facts import ClockFacts, Facts
from wg_exporter.cli.check.look.files import config_facts
from wg_exporter.cli.check.look.web import web_facts
from wg_exporter.linux.clock import synchronised

if TYPE_CHECKING:
    from collections.abc import Sequence


class Wish(NamedTuple):
    """What was asked for: files, None or empty = as the exporter that runs has them."""

    config_file: Path | None
    web_file: Path | None
    listen: Sequence[str]
    socket: str


def of_files(wish: Wish) -> Facts:
    """What the files say."""
    web = web_facts(wish.web_file, host=False) if wish.web_file else None
    return Facts(config_facts(wish.config_file), clock_facts(), web, uid=os.geteuid())


def clock_facts() -> ClockFacts:
    """The clock, and the time of the program's own files."""
    return ClockFacts(time.time(), Path(wg_exporter.__file__).stat().st_mtime, synchronised())
