"""What each library costs: megabytes on disk, memory and milliseconds of an import, as a table in docs/install.md.

    python -m bench.dependencies [--check]

Each import is made in an interpreter of its own, so it counts what it brings along, also of Python's own modules, which
two libraries may share: the rows don't add up. Milliseconds are those of the processor, of the fastest run. `--check`
only looks whether the table names all libraries, for the figures are those of one machine on one day.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import statistics
import subprocess
import sys
import tomllib
from importlib.metadata import Distribution, distribution
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs/install.md"
BEGIN, END = "<!-- measured by bench/dependencies.py -->\n", "<!-- end of what was measured -->\n"
RUNS = 7
_MEASURE = """
import sys, time
def resident():
    with open("/proc/self/smaps_rollup") as lines:
        return sum(int(line.split()[1]) for line in lines if line.startswith("Private_"))
before, begin = resident(), time.process_time()
{code}
print((time.process_time() - begin) * 1e3, resident() - before)
"""


class Use(NamedTuple):
    """What is imported of a library, and what for."""

    code: str
    when: str


# The packages that `serve` imports on any host first; tests/test_imports.py holds that it imports no other.
USES = {
    "click": Use("import click", "always: the command line"),
    "msgspec": Use(
        "import msgspec", "`serve`, `show`, `mtu`, `diagnose`: configuration, messages between processes, JSON"
    ),
    "pyyaml": Use("import yaml", "`serve`, `show`, `mtu`, `diagnose`: configuration"),
    "h11": Use("import h11", "`serve`: HTTP"),
    "isal": Use("from isal import isal_zlib", "`serve`: gzip"),
    "prometheus-client": Use("import prometheus_client", "`wg_exporter.collector`, for a registry of your own"),
    "bcrypt": Use("import bcrypt", "`serve --web.config.file`, for passwords"),
    "markdown-it-py": Use("import markdown_it", "`serve`, once somebody asks for a page below `/docs/`"),
    "cryptography": Use(
        "from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey",
        "peers that call in vain: who calls, in `serve` and `diagnose`; `check`: certificates",
    ),
    "pyroute2": Use("from pyroute2 import netns", "`namespaces:` on Python 3.11"),
    "rich": Use("import rich.live, rich.text, rich.console", "`show`, `mtu`, `diagnose`: the screen"),
    "scapy": Use("from scapy.utils import PcapNgWriter", "`mtu --pcap`, `diagnose --pcap` and `--packets`: captures"),
}


class Cost(NamedTuple):
    """Of one library: bytes on disk, with what it alone needs; milliseconds; bytes of memory that are its own."""

    disk: int
    milliseconds: float
    memory: int


def cost(name: str) -> Cost:
    """Measure one library."""
    runs = [_run(USES[name].code) for _ in range(RUNS)]
    disk = sum(_disk(distribution(one)) for one in _with_needed(name, set()))
    return Cost(disk, min(run[0] for run in runs), int(statistics.median(run[1] for run in runs)) << 10)


def _run(code: str) -> tuple[float, float]:
    done = subprocess.run([sys.executable, "-I", "-c", _MEASURE.format(code=code)], check=True, capture_output=True)
    milliseconds, kilobytes = map(float, done.stdout.split())
    return milliseconds, kilobytes


def _disk(found: Distribution) -> int:
    paths = [Path(str(file.locate())) for file in found.files or () if file.suffix != ".pyc"]
    return sum(path.stat().st_size for path in paths if path.is_file())


def _with_needed(name: str, seen: set[str]) -> set[str]:
    """A library and those that are there only for it."""
    direct = {re.split("[^a-z0-9-]", line)[0] for line in _dependencies()}
    seen.add(name)
    for line in distribution(name).requires or ():
        needed = re.split(r"[^A-Za-z0-9_.-]", line)[0].lower()
        if not re.search("extra|win32|platform_system|python_version", line) and needed not in seen | direct:
            _with_needed(needed, seen)
    return seen


def _dependencies() -> list[str]:
    found: list[str] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    return found


def table() -> str:
    """The table, with the machine that it was measured on."""
    rows = [f"| {name} | {_row(cost(name))} | {use.when} |\n" for name, use in USES.items()]
    machine = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    return (
        f"Measured on {machine}; other machines have other figures, and much the same order.\n\n"
        "| library | on disk | memory | import | needed for |\n|---|---|---|---|---|\n" + "".join(rows)
    )


def _row(found: Cost) -> str:
    return f"{found.disk / 1e6:.1f} MB | {found.memory / 1e6:.1f} MB | {found.milliseconds:.0f} ms"


def written(page: str, text: str) -> str:
    """The page with this table in place of the one that it has. Raises ValueError where it has no place for one."""
    head, begin, rest = page.partition(BEGIN)
    _old, end, tail = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"{PAGE} has no place for the table")
    return f"{head}{begin}{text}{end}{tail}"


def main() -> int:
    """Write the table, or check it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if a library is missing")
    page = PAGE.read_text()
    if parser.parse_args().check:
        lacking = [name for name in USES if f"\n| {name} | " not in page.partition(BEGIN)[2].partition(END)[0]]
        if lacking:
            sys.stderr.write(f"{PAGE} lacks {', '.join(lacking)}: run python -m bench.dependencies\n")
        return int(bool(lacking))
    PAGE.write_text(written(page, table()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
