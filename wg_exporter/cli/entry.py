"""Where the program begins, before anything is imported that takes time.

A service is sent signals from the moment it is started, and importing takes most of its start. `diagnose` promises to
end in time, and counts from here.
"""

from __future__ import annotations

import sys
import time

from wg_exporter.linux import signals


def main(prog_name: str | None = None) -> None:
    """Run the program. `prog_name` is what its help calls it; None = as it was called."""
    began = time.monotonic()
    if sys.argv[1:2] == ["serve"]:
        signals.hold()
    from wg_exporter.cli.program import main as program  # noqa: PLC0415 - see above

    program(prog_name=prog_name, obj=began)
