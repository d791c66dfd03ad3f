"""Whether a change is noticed: by a generator, by the tests of its place, the quickest file first, or else by mypy.

A test that fails is run once more by itself: where it passes then, it failed by chance, and the others go on.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor, as_completed
from queue import SimpleQueue
from time import monotonic
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from tests.mutants.places import found

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from tests.mutants.draw import Mutant
    from tests.mutants.places import Part, Place
    from tests.mutants.trees import Ran, Tree

OVERDUE = "is not done after"
MYPY = ("-m", "mypy")
GENERATING = 60.0  # seconds
TYPING = 300.0
PATIENCE = 60.0  # beyond five times what a file of tests takes without a change
UNCHANGED = 900.0  # for a file of tests, without any change
CHANCES = 3  # tests of a file that may fail by chance

Item = TypeVar("Item")
Result = TypeVar("Result")


class Outcome(NamedTuple):
    """What became of a change: `by` is the test, generator or tool that noticed it, "" if none did."""

    mutant: Mutant
    by: str
    seconds: float


class BrokenError(Exception):
    """Something fails without any change. The message has what it wrote."""


class Judge:
    """Runs tests in several trees at once."""

    def __init__(self, trees: Sequence[Tree]) -> None:
        self._trees: SimpleQueue[Tree] = SimpleQueue()
        self._count = len(trees)
        for tree in trees:
            self._trees.put(tree)
        self._seconds: dict[str, float] = {}  # that files of tests take without a change
        self._tests: dict[Part, list[str]] = {}

    def begin(self, root: Path, places: Sequence[Place], without: Sequence[str] = ()) -> Iterator[tuple[str, float]]:
        """Run all without a change, and give the files of tests with their seconds. Raises BrokenError.

        The files `without` are left out.
        """
        for place in places:
            for part in place.parts:
                self._tests[part] = [file for file in found(root, part.tests) if file not in without]
        if any(place.typed for place in places):
            list(self._each([MYPY] * self._count, _right))  # in each tree, for mypy keeps a cache there
        files = sorted({file for tests in self._tests.values() for file in tests})
        for file, seconds in self._each(files, _unchanged):
            self._seconds[file] = seconds
            yield file, seconds
        for tests in self._tests.values():
            tests.sort(key=self._seconds.__getitem__)

    def judge(self, mutants: Sequence[Mutant]) -> Iterator[Outcome]:
        """What becomes of each, in the order in which it is known."""
        yield from self._each(mutants, self._judge)

    def _each(self, items: Sequence[Item], do: Callable[[Tree, Item], Result]) -> Iterator[Result]:
        """Do it for all, each in a tree that nobody else uses meanwhile."""

        def one(item: Item) -> Result:
            tree = self._trees.get()
            try:
                return do(tree, item)
            finally:
                self._trees.put(tree)

        pool = ThreadPoolExecutor(self._count)
        try:
            for future in as_completed([pool.submit(one, item) for item in items]):
                yield future.result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    def _judge(self, tree: Tree, mutant: Mutant) -> Outcome:
        began = monotonic()
        with tree.changed(mutant.file, mutant.code, written=mutant.place.written):
            by = self._noticed(tree, mutant)
        return Outcome(mutant, by, monotonic() - began)

    def _noticed(self, tree: Tree, mutant: Mutant) -> str:
        for generator in mutant.place.generators:
            if not tree.run([generator], GENERATING).well:
                return generator
        for file in self._tests[mutant.part]:
            by, _ran = _failing(tree, file, PATIENCE + 5 * self._seconds[file])
            if by:
                return by
        if mutant.place.typed and not tree.run(MYPY, TYPING).well:
            return "mypy"
        return ""


def _failing(tree: Tree, file: str, limit: float) -> tuple[str, Ran]:
    """The test of a file that fails twice, or what else is wrong with the file, "" if nothing is; and the last run."""
    by_chance: list[str] = []
    while True:
        ran, test = tree.test(file, limit, without=by_chance)
        if ran.well:
            return "", ran
        if ran.code is None:
            return f"{file} {OVERDUE} {limit:.0f} s", ran
        if test == file or len(by_chance) == CHANCES:
            return test, ran
        again, _ = tree.test(test, limit)
        if not again.well:
            return test, again
        by_chance.append(test)


def _unchanged(tree: Tree, file: str) -> tuple[str, float]:
    test, ran = _failing(tree, file, UNCHANGED)
    if test:
        raise BrokenError(f"{test} fails without any change:\n{ran.output}")
    return file, ran.seconds


def _right(tree: Tree, command: Sequence[str]) -> None:
    ran = tree.run(command, TYPING)
    if not ran.well:
        raise BrokenError(f"{' '.join(command)} fails without any change:\n{ran.output}")
