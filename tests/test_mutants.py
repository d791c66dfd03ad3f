"""`make mutants` tells the truth: it changes copies only, runs what it changed, leaves nothing, and counts rightly.

What mutmut does is not looked at here, for it is installed for `make mutants` alone.
"""

from __future__ import annotations

import os
import select
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.mutants.judge import OVERDUE, BrokenError, Judge, Outcome
from tests.mutants.places import PLACES, Part, Place, found
from tests.mutants.report import EXPLAINED, Explained, Report, explained
from tests.mutants.trees import StoppedError, Tree

ROOT = Path(__file__).parents[1]

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: unshare")
every_place = pytest.mark.parametrize("place", [pytest.param(place, id=place.name) for place in PLACES])

TESTS = """\
import pathlib, sys
from program import answer

def test_by_chance():
    tried = pathlib.Path("tried")
    first = not tried.exists()
    tried.touch()
    assert not first or answer() == 42

def test_answer():
    assert answer() < 43
"""
PART = Part(("program.py",), ("test_*.py",))
PLACE = Place("here", (PART,), typed=False)


class Mutant(NamedTuple):
    """As one that was drawn (tests.mutants.draw)."""

    code: str
    file: str = "program.py"
    place: Place = PLACE
    part: Part = PART
    name: str = "program.py:2"
    change: str = "-a\n+b\n"
    diff: str = "@@ -1 +1 @@\n-a\n+b\n"


def checkout(directory: Path, **files: str) -> Path:
    """A checkout of which git knows these modules."""
    subprocess.run(["git", "init", "-q", directory], check=True)
    for name, text in files.items():
        (directory / f"{name}.py").write_text(text)
    return directory


def program(answer: str) -> str:
    return f"def answer():\n    return {answer}\n"


# The table and the list


@every_place
def test_a_place_has_sources_and_tests(place: Place) -> None:
    for part in place.parts:
        assert found(ROOT, part.sources)
        assert all(Path(file).name.startswith("test_") for file in found(ROOT, part.tests))


def test_a_pattern_without_files_is_an_error() -> None:
    with pytest.raises(LookupError, match=r"nowhere/\*\.py"):
        found(ROOT, ["nowhere/*.py"])


def test_what_an_explained_change_takes_away_still_stands_in_its_file() -> None:
    for row in explained(EXPLAINED.read_text()):
        gone = "\n".join(line[1:] for line in row.change.splitlines() if line.startswith("-"))
        assert gone in (ROOT / row.file).read_text()
        assert row.reason.strip()


# Trees


@needs_root
def test_every_process_runs_the_change_and_the_checkout_never_has_it(tmp_path: Path) -> None:
    source = checkout(tmp_path / "checkout", program=program("1"))
    tree = Tree(source, tmp_path / "tree")
    inner = "import program; print(program.answer())"
    asks = f"import subprocess, sys; subprocess.run([sys.executable, '-I', '-c', {inner!r}], cwd='/')"
    with tree.changed("program.py", program("2")):
        assert tree.run(["-c", asks], 20).output == "2\n"
        assert (source / "program.py").read_text() == program("1")
    # As long and as old as the one before.
    with tree.changed("program.py", program("3")):
        assert tree.run(["-c", asks], 20).output == "3\n"
    assert tree.run(["-c", asks], 20).output == "1\n"


@needs_root
def test_what_was_written_meanwhile_is_as_before(tmp_path: Path) -> None:
    tree = Tree(checkout(tmp_path / "checkout", program=program("1"), page="old"), tmp_path / "tree")
    with tree.changed("program.py", program("2"), written=["pa*.py"]):
        tree.run(["-c", "open('page.py', 'w').write('new')"], 20)
        assert (tmp_path / "tree/page.py").read_text() == "new"
    assert (tmp_path / "tree/page.py").read_text() == "old"


@needs_root
@pytest.mark.parametrize(("rest", "code"), [("", 0), ("; time.sleep(600)", None)])
def test_all_that_a_run_started_ends_with_it(tmp_path: Path, rest: str, code: int | None) -> None:
    tree = Tree(checkout(tmp_path / "checkout"), tmp_path / "tree")
    os.mkfifo(tmp_path / "alive")
    reading = os.open(tmp_path / "alive", os.O_RDONLY | os.O_NONBLOCK)
    child = f"subprocess.Popen(['sleep', '600'], stdout=open({str(tmp_path / 'alive')!r}, 'w'), start_new_session=True)"
    assert tree.run(["-c", f"import subprocess, time; {child}{rest}"], 4).code == code
    assert os.read(reading, 1) == b""  # nobody has it open any more; else there is nothing to be read yet
    os.close(reading)


@needs_root
def test_a_tree_that_is_stopped_ends_what_runs_and_runs_nothing_more(tmp_path: Path) -> None:
    tree = Tree(checkout(tmp_path / "checkout"), tmp_path / "tree")
    os.mkfifo(tmp_path / "alive")
    reading = os.open(tmp_path / "alive", os.O_RDONLY | os.O_NONBLOCK)
    writes = f"alive = open({str(tmp_path / 'alive')!r}, 'w'); alive.write('x'); alive.flush()"
    code = f"import subprocess; {writes}; subprocess.run(['sleep', '600'], stdout=alive)"
    with ThreadPoolExecutor() as pool:
        running = pool.submit(tree.run, ["-c", code], 60)
        while not select.select([reading], [], [], 0.2)[0] or not os.read(reading, 1):
            assert not running.done(), running.result()
        tree.stop()
        assert os.read(reading, 1) == b"", "nobody has it open any more"
        assert running.result().code != 0
    os.close(reading)
    with pytest.raises(StoppedError):
        tree.run(["-c", ""], 600)


# The judge


@pytest.fixture
def bare_pytest(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tests of these checkouts need no plugin, and begin sooner without."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")


@needs_root
@pytest.mark.usefixtures("bare_pytest")
def test_a_change_is_noticed_by_a_test_that_fails_twice_and_not_by_chance(tmp_path: Path) -> None:
    source = checkout(tmp_path / "checkout", program=program("42"), test_program=TESTS)
    judge = Judge([Tree(source, tmp_path / "tree")])
    assert [file for file, _seconds in judge.begin(source, [PLACE])] == ["test_program.py"]
    (tmp_path / "tree/tried").unlink()
    wrong, smaller = judge.judge([Mutant(program("43")), Mutant(program("41"))])
    assert wrong.by == "test_program.py::test_answer"
    assert smaller.by == ""


@needs_root
@pytest.mark.usefixtures("bare_pytest")
def test_nothing_is_judged_by_tests_that_fail_anyway(tmp_path: Path) -> None:
    source = checkout(tmp_path / "checkout", program=program("44"), test_program=TESTS)
    judge = Judge([Tree(source, tmp_path / "tree")])
    with pytest.raises(BrokenError, match=r"test_program\.py::test_answer fails without any change"):
        list(judge.begin(source, [PLACE]))


# The count


def test_what_is_explained_counts_for_nothing_and_only_the_rest_is_a_survivor() -> None:
    outcomes = [
        Outcome(Mutant("1"), "test_program.py::test_answer", 1.0),
        Outcome(Mutant("2"), "mypy", 1.0),
        Outcome(Mutant("3"), f"test_program.py {OVERDUE} 60 s", 1.0),
        Outcome(Mutant("4"), "", 1.0),
        Outcome(Mutant("5", change="-c\n+d\n"), "", 1.0),
        Outcome(Mutant("6", change="-c\n+d\n", file="other.py"), "", 1.0),
    ]
    report = Report(outcomes, [Explained("program.py", "-c\n+d\n", "They are the same.")])
    assert report.count() == (
        "here: noticed 3 (1 by mypy alone, 1 by taking long), survived 2, equivalent 1; "
        "noticed of those that change something: 60.0 %"
    )
    page = report.page("six")
    assert page.count("```diff\n@@ -1 +1 @@\n-a\n+b\n```") == 3
    assert "They are the same." in page
