"""The configuration: what is wrong with it, what of it matches nothing on this host, and who could change it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wg_exporter.cli.check.finding import Check, Finding, Judged, Kind, NotKnown, Severity, Where

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from wg_exporter.cli.check.facts import Facts, FileFact
    from wg_exporter.config.tree import Problem

UNUSABLE = Kind(
    "config-unusable",
    Severity.ERROR,
    "The configuration has a mistake. The exporter does not start with it, and a reload changes nothing.",
    "Correct the line; docs/configuration.md has all keys.",
)
WRITABLE = Kind(
    "config-writable",
    Severity.ERROR,
    "Every user of this host can change the configuration, or the web configuration, and with it whom root's exporter "
    "watches and who may ask it.",
    "`chmod o-w` on the file or its directory.",
)
OWNER = Kind(
    "config-owner",
    Severity.WARNING,
    "The configuration, or the web configuration, belongs to a user who is neither root nor the one that runs the "
    "exporter, and who can change it.",
    "`chown root` the file.",
)
UNMATCHED = Kind(
    "config-unmatched",
    Severity.WARNING,
    "An entry of the configuration matches nothing on this host: a slip of the pen, mostly. A rule under `expect` that "
    "matches no peer waits for nobody, so nobody is paged.",
    "Correct the entry, or take it out. In a file for many hosts it may be meant so.",
)


def _unusable(facts: Facts) -> Iterator[Judged]:
    if facts.config.unseen:
        yield NotKnown("configuration", facts.config.unseen)
    for problem in facts.config.problems:
        yield of_problem(UNUSABLE, problem)


def of_problem(kind: Kind, problem: Problem) -> Finding:
    """The finding for a problem of a YAML file, which says its place as FILE:LINE: or FILE:LINE: KEY."""
    file, line, key = _placed(problem.where)
    return kind.at(Where(file, line), f"{key}: {problem.what}" if key else problem.what, problem.fix)


def _placed(text: str) -> tuple[str, int, str]:
    where, _, key = text.partition(": ")
    file, _, number = where.rpartition(":")
    if not (file and number.isdigit()):
        return where, 0, key
    if (outer := file.rpartition(":"))[0] and outer[2].isdigit():  # FILE:LINE:COLUMN
        return outer[0], int(outer[2]), key
    return file, int(number), key


def _writable(facts: Facts) -> Iterator[Judged]:
    for file in _files(facts):
        yield from writable(WRITABLE, file)


def writable(kind: Kind, file: FileFact) -> Iterator[Finding]:
    """Who else than its owner and its group can change a file, or put another one in its place."""
    if file.problem or file.enclosed:
        return
    if file.mode & 0o002:
        yield kind.at(Where(file.path), f"every user can write to it ({octal(file.mode)})", f"chmod o-w {file.path}")
    elif file.directory_mode & 0o1002 == 0o002:  # a sticky directory keeps others from replacing what is not theirs
        directory = file.path.rpartition("/")[0] or "/"
        what = f"every user can put another file in its place ({directory} is {octal(file.directory_mode)})"
        yield kind.at(Where(file.path), what, f"chmod o-w {directory}")


def octal(mode: int) -> str:
    """The permissions as chmod(1) takes them."""
    return f"mode {mode & 0o7777:04o}"


def _owner(facts: Facts) -> Iterator[Judged]:
    assert facts.host is not None  # noqa: S101 - for the type checker
    running = facts.host.exporter.running
    trusted = {0, facts.uid, *((running.uid,) if running else ())}
    for file in _files(facts):
        if not file.problem and file.uid not in trusted:
            yield OWNER.at(Where(file.path), f"it belongs to uid {file.uid}", f"chown root {file.path}")


def _files(facts: Facts) -> Iterable[FileFact]:
    return filter(None, (facts.config.file, facts.web.file if facts.web else None))


def _unmatched(facts: Facts) -> Iterator[Judged]:
    assert facts.host is not None  # noqa: S101
    overview = facts.host.exporter.overview
    if overview is None:
        yield NotKnown("what of the configuration matches nothing", "the host was not looked at")
        return
    where = Where(facts.config.file.path if facts.config.file else "")
    for line in overview.unmatched_entries:
        what, _, fix = line.replace(" in the configuration: ", ": ", 1).partition("; ")
        yield UNMATCHED.at(where, what, fix)


CHECKS = (
    Check("configuration", (UNUSABLE,), _unusable, host=False),
    Check("who can write to the configuration", (WRITABLE,), _writable),
    Check("who owns the configuration", (OWNER,), _owner),
    Check("entries of the configuration that match nothing", (UNMATCHED,), _unmatched),
)
