"""All changes that mutmut makes to a file, without those that only a reader would see, and some of them by a seed."""

from __future__ import annotations

import ast
import difflib
import random
import re
from typing import TYPE_CHECKING, NamedTuple

import libcst as cst
from mutmut.mutation.file_mutation import create_mutations

from tests.mutants.places import found

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from mutmut.mutation.file_mutation import Mutation

    from tests.mutants.places import Part, Place

LOG = re.compile(r"(^|\.)_?log(ger)?(\.\w+)?$")  # what is called to write a line into the log
SENTENCE = re.compile(r"\s\S.*[.!?:]\s*$", re.DOTALL)


class Mutant(NamedTuple):
    """One change of one file. `code` is the whole file with the change in it."""

    place: Place
    part: Part
    file: str
    line: int
    code: str
    diff: str

    @property
    def name(self) -> str:
        """Where it is."""
        return f"{self.file}:{self.line}"

    @property
    def change(self) -> str:
        """The lines that go and those that come, which stay the same while the file changes elsewhere."""
        return changed_lines(self.diff)


def changed_lines(diff: str) -> str:
    """The lines of a diff that begin with - or +, without its head."""
    return "".join(line for line in diff.splitlines(keepends=True) if re.match(r"[-+](?!--|\+\+)", line))


def draw(root: Path, place: Place, count: int, seed: int) -> list[Mutant]:
    """So many changes of a place: the same ones for the same seed while its sources stay the same."""
    files: dict[str, Part] = {}
    for part in place.parts:
        for file in found(root, part.sources):
            files.setdefault(file, part)
    candidates = [candidate for file in sorted(files) for candidate in _of(root, file, files[file])]
    random.Random(f"{seed} {place.name}").shuffle(candidates)
    drawn: dict[str, Mutant] = {}
    for part, file, source, mutation in candidates:
        if len(drawn) == count:
            break
        mutant = _made(place, part, file, source, mutation)
        if mutant is not None:
            drawn.setdefault(mutant.diff, mutant)
    return list(drawn.values())


class _Source(NamedTuple):
    """A file as it is: mutmut's tree of it, for its changes are made of nodes of that tree, and the text."""

    module: cst.Module
    text: str


def _of(root: Path, file: str, part: Part) -> Iterator[tuple[Part, str, _Source, Mutation]]:
    text = (root / file).read_text()
    module, mutations, *_ignored = create_mutations(file, text)
    unseen = _Unseen()
    module.visit(unseen)
    source = _Source(module, text)
    for mutation in mutations:
        if not unseen.covers(mutation):
            yield part, file, source, mutation


def _made(place: Place, part: Part, file: str, source: _Source, mutation: Mutation) -> Mutant | None:
    """The change, or None where Python does not take it or sees no difference."""
    code = source.module.deep_replace(mutation.original_node, mutation.mutated_node).code
    try:
        if ast.dump(ast.parse(code)) == ast.dump(ast.parse(source.text)):
            return None
    except SyntaxError:
        return None
    lines = difflib.unified_diff(source.text.splitlines(keepends=True), code.splitlines(keepends=True), file, file, n=2)
    diff = "".join(lines)
    return Mutant(place, part, file, _first_changed(source.text, code), code, diff)


def _first_changed(before: str, after: str) -> int:
    pairs = zip(before.splitlines(), after.splitlines(), strict=False)
    return next((number for number, (one, other) in enumerate(pairs, 1) if one != other), before.count("\n") + 1)


class _Unseen(cst.CSTVisitor):
    """Finds what does not act: texts for a person (sentences, the log, errors), types, and names of slots.

    mutmut itself leaves out annotations and what is written in three quotes.
    """

    def __init__(self) -> None:
        self._nodes: set[int] = set()
        self._kept: list[cst.CSTNode] = []  # an id is of one node only while that one lives

    def covers(self, mutation: Mutation) -> bool:
        """Whether a change only changes what was found."""
        before, after = mutation.original_node, mutation.mutated_node
        if id(before) in self._nodes:
            return True
        if not (isinstance(before, cst.Call) and isinstance(after, cst.Call)):
            return False
        kept = {id(argument) for argument in after.args}
        changed = [argument.value for argument in before.args if id(argument) not in kept]
        return bool(changed) and all(id(value) in self._nodes for value in changed)

    def visit_Call(self, node: cst.Call) -> None:
        called = cst.Module([]).code_for_node(node.func)
        if LOG.search(called):
            self._hide(node)
        elif called == "cast":
            self._hide(node.args[0].value)

    def visit_Raise(self, node: cst.Raise) -> None:
        if isinstance(node.exc, cst.Call):
            for argument in node.exc.args:
                self._hide(argument.value)

    def visit_Assign(self, node: cst.Assign) -> None:
        names = {target.target.value for target in node.targets if isinstance(target.target, cst.Name)}
        if names & {"__slots__", "__all__"}:
            self._hide(node)

    def visit_AnnAssign(self, node: cst.AnnAssign) -> None:
        if isinstance(node.annotation.annotation, cst.Name) and node.annotation.annotation.value == "TypeAlias":
            self._hide(node)

    def visit_Expr(self, node: cst.Expr) -> None:
        if isinstance(node.value, cst.BaseString):
            self._hide(node)

    def visit_ConcatenatedString(self, node: cst.ConcatenatedString) -> None:
        self._hide_sentence(node)

    def visit_SimpleString(self, node: cst.SimpleString) -> None:
        self._hide_sentence(node)

    def visit_FormattedString(self, node: cst.FormattedString) -> None:
        self._hide_sentence(node)

    def _hide_sentence(self, node: cst.BaseString) -> None:
        text = "".join(_texts(node))
        if SENTENCE.search(text):
            self._hide(node)

    def _hide(self, node: cst.CSTNode) -> None:
        self._kept.append(node)
        self._nodes.update(id(each) for each in _walk(node))


def _texts(node: cst.BaseString) -> Iterable[str]:
    if isinstance(node, cst.SimpleString):
        yield node.raw_value
    elif isinstance(node, cst.ConcatenatedString):
        yield from _texts(node.left)
        yield from _texts(node.right)
    elif isinstance(node, cst.FormattedString):
        yield from (part.value if isinstance(part, cst.FormattedStringText) else "x" for part in node.parts)


def _walk(node: cst.CSTNode) -> Iterator[cst.CSTNode]:
    yield node
    for child in node.children:
        yield from _walk(child)
