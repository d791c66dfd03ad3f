"""How tests are shared out between lanes: whole modules, the longest first, what is busy last."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests import lanes
from tests.lanes import APART, LATER, LONGEST, Lanes

ROOT = Path(__file__).parents[1]


class Worker:
    """Takes what it is given, and does it when told."""

    shutting_down = False

    def __init__(self, name: str) -> None:
        self.gateway = SimpleNamespace(id=name)
        self.given: list[int] = []

    def send_runtest_some(self, indices: list[int]) -> None:
        self.given += indices

    def shutdown(self) -> None:
        self.shutting_down = True


def shared_out(collection: list[str], workers: int = 2) -> list[list[str]]:
    """What each worker is given, in order, if all tests take the same time."""
    config = SimpleNamespace(option=SimpleNamespace(loadscopereorder=True), getvalue=lambda _: [f"{workers}*popen"])
    lanes = Lanes(config)
    nodes = [Worker(f"gw{number}") for number in range(workers)]
    for node in nodes:
        lanes.add_node(node)
        lanes.add_node_collection(node, collection)
    lanes.schedule()
    done = [0] * workers
    while any(done[at] < len(node.given) for at, node in enumerate(nodes)):
        for at, node in enumerate(nodes):
            if done[at] < len(node.given):
                lanes.mark_test_complete(node, node.given[done[at]])
                done[at] += 1
    return [[collection[index] for index in node.given] for node in nodes]


@pytest.fixture
def tables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lanes, "LONGEST", ("long.py", "apart.py::one"))
    monkeypatch.setattr(lanes, "APART", ("apart.py::one",))
    monkeypatch.setattr(lanes, "LATER", ("busy.py",))


@pytest.mark.usefixtures("tables")
def test_a_module_stays_in_one_lane_and_all_tests_are_given_once() -> None:
    collection = [f"{module}.py::test_{number}" for module in "abcdef" for number in range(5)]
    given = shared_out(collection)
    assert sorted(given[0] + given[1]) == collection
    assert not {test.partition("::")[0] for test in given[0]} & {test.partition("::")[0] for test in given[1]}


@pytest.mark.usefixtures("tables")
def test_the_longest_begin_and_parts_that_stand_apart_go_where_there_is_room() -> None:
    collection = ["a.py::x", "apart.py::other", "apart.py::one[1]", "apart.py::one[2]", "b.py::x", "long.py::x"]
    first, second = shared_out(collection)
    assert first[:2] == ["long.py::x", "apart.py::one[2]"]
    assert second[0] == "apart.py::one[1]"


@pytest.mark.usefixtures("tables")
def test_what_is_busy_comes_last() -> None:
    collection = ["busy.py::x", "a.py::x", "short.py::other", "long.py::x"]
    (given,) = shared_out(collection, workers=1)
    assert given == ["long.py::x", "a.py::x", "short.py::other", "busy.py::x"]


@pytest.mark.parametrize("table", [LONGEST, LATER, APART], ids=["longest", "later", "apart"])
def test_every_name_in_the_tables_is_that_of_a_test(table: tuple[str, ...]) -> None:
    for beginning in table:
        file, _, function = beginning.partition("::")
        (path, *_) = ROOT.glob(f"{file}*")
        assert re.search(rf"^def {function}", path.read_text(), re.MULTILINE), beginning
