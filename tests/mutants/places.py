"""Where changes are drawn, and which tests should notice them. Whoever moves a file or a test edits the table here."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path


class Part(NamedTuple):
    """Sources that have the same tests; both are patterns, from the root of the checkout.

    A file that several parts of a place name belongs to the first.
    """

    sources: tuple[str, ...]
    tests: tuple[str, ...]


class Place(NamedTuple):
    """A place gets an equal share of the drawn changes.

    Its `generators` make files of its sources: those `written`. mypy is asked where it looks at the sources at all.
    """

    name: str
    parts: tuple[Part, ...]
    generators: tuple[str, ...] = ()
    written: tuple[str, ...] = ()
    typed: bool = True


# The exporter as a whole, and what it tells a person.
WHOLE = ("tests/test_exporter*.py", "tests/test_landing.py", "tests/test_show*.py")
# The exporter's side of the prober's process.
HANDLE = ("handle", "known", "pending", "probed", "supervisor")

PLACES = (
    Place(
        "health",
        (Part(("wg_exporter/health/**/*.py",), ("tests/test_health*.py", "tests/test_overview.py", *WHOLE)),),
    ),
    Place(
        "wiring",
        (
            Part(
                (
                    "wg_exporter/daemon/exporter.py",
                    "wg_exporter/daemon/host.py",
                    "wg_exporter/daemon/probing.py",
                    "wg_exporter/daemon/reloading.py",
                    "wg_exporter/daemon/seeking.py",
                    "wg_exporter/daemon/views.py",
                    "wg_exporter/history/*.py",
                    "wg_exporter/reader/reader.py",
                ),
                (
                    *WHOLE,
                    "tests/test_history.py",
                    "tests/test_host.py",
                    "tests/test_reader.py",
                    "tests/test_reader_homes.py",
                    "tests/test_reload.py",
                ),
            ),
            Part(
                ("wg_exporter/prober/driver.py", *(f"wg_exporter/remote/prober/{name}.py" for name in HANDLE)),
                (
                    *(
                        f"tests/test_prober_{name}*.py"
                        for name in ("driver", "process", "known", "pending", "probed", "messages")
                    ),
                    "tests/test_serve_probing.py",
                ),
            ),
        ),
    ),
    Place(
        "dashboards",
        (Part(("dashboards/*.py",), ("tests/test_dashboards*.py",)),),
        generators=("dashboards/generate.py",),
        written=("dashboards/*.json",),
        typed=False,
    ),
)


def found(root: Path, patterns: Iterable[str]) -> list[str]:
    """The files that patterns speak of, each once, as paths from the root. LookupError for a pattern without any."""
    files: dict[str, None] = {}
    for pattern in patterns:
        paths = sorted(str(path.relative_to(root)) for path in root.glob(pattern))
        if not paths:
            raise LookupError(f"no file is called {pattern}: tests/mutants/places.py is to be corrected")
        files.update(dict.fromkeys(paths))
    return list(files)
