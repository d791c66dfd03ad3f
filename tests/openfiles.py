"""Which files this process has open. A test asks for those that are new: what earlier tests left may be closed
meanwhile, by the garbage collector or by a thread that ends.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from pathlib import Path


def open_files() -> Counter[str]:
    """How often each is open, by what it is. `open_files() - before` are the new ones."""
    found: Counter[str] = Counter()
    for file in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            what = str(file.readlink())
            found[what] += not what.endswith("/fd")  # the directory that is looked at
    return found
