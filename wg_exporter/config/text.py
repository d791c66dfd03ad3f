"""YAML text into a tree of nodes that remember their lines, in bounded time and memory.

YAML is used for its notation only: nothing is constructed by the YAML library, so none of its conversions or tags can
act. Hostile text is cheap to refuse, because size, depth and number of nodes are counted over YAML's event stream,
which keeps nothing, before any tree is built. (Aliases multiply nodes only where a tree is read: the reader counts.)

What a message may say of the text is decided here too (`shown`): people paste private keys into wrong places, and a
message ends in a log.
"""

from __future__ import annotations

import re
from typing import Any, Final

import yaml

MAX_BYTES: Final = 1 << 20  # of a file; names for about 14,000 peers fit
MAX_NODES: Final = 200_000  # more than such a file needs; a tree of as many takes 100 MB for a moment
MAX_DEPTH: Final = 16  # the deepest key is at 4

# libyaml, where PyYAML was built with it, is 30 times faster and takes the same language.
LOADER: Final[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

# Marks that turn around or shape the text that follows them, on a page or a terminal: one name could look like another.
DIRECTION: Final = re.compile("[\u061c\u200e\u200f\u202a-\u202e\u2066-\u206f]")
# Those, line breaks, escape codes and surrogates.
CONTROL: Final = re.compile(f"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff{DIRECTION.pattern[1:-1]}]")
_NOT_YAML: Final = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # YAML 1.1, 5.1
# A WireGuard key is 43 base64 characters and a `=`. Shorter runs are hidden too: part of a key is also a secret.
KEY_LIKE: Final = re.compile("[A-Za-z0-9+/]{32}")
_SHOWN: Final = 40


class YamlProblem(Exception):  # noqa: N818  it carries what the user did, as `Problem` does
    """Why a text is not YAML that we take: line and column from 1 (column 0: the whole line), and what to do."""

    def __init__(self, line: int, column: int, what: str, fix: str) -> None:
        super().__init__(line, column, what, fix)
        self.line = line
        self.column = column
        self.what = what
        self.fix = fix


def shown(text: str) -> str:
    """A value or key as a message may show it: one line, short, and never what could be (part of) a secret key."""
    if KEY_LIKE.search("".join(text[:4096].split())):
        return "not shown, it may be a key"
    short = text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"
    return '"' + CONTROL.sub(lambda match: f"\\u{ord(match[0]):04x}", short) + '"'


def compose(text: str, loader: Any = LOADER) -> yaml.Node | None:
    """The root node of a YAML 1.1 text, None if it is empty. Raises `YamlProblem`."""
    text = text.removeprefix("\ufeff")
    bad = _NOT_YAML.search(text)
    if bad:
        line = text.count("\n", 0, bad.start()) + 1
        what = f"holds the character U+{ord(bad[0]):04X}, which YAML does not allow"
        raise YamlProblem(line, 0, what, "remove it, or save the file again as UTF-8 text")
    if len(text) > MAX_BYTES or len(text.encode()) > MAX_BYTES:
        raise YamlProblem(1, 0, f"is larger than {MAX_BYTES >> 20} MiB", "check that this is the configuration file")
    try:
        _check_bounds(text, loader)
        root: yaml.Node | None = yaml.compose(text, Loader=loader)
    except yaml.MarkedYAMLError as error:
        problem = _syntax(text, error.problem or "", error.problem_mark or error.context_mark)
    except (yaml.YAMLError, ValueError, OverflowError):  # the latter two: escapes like "\UFFFFFFFF", `%YAML 1.9999...`
        problem = _syntax(text, "", None)
    else:
        return root
    # Raised out here, so that no exception carries YAML's own, and with it the text of the file, as its context.
    raise problem


def _check_bounds(text: str, loader: Any) -> None:
    depth = nodes = documents = 0
    for event in yaml.parse(text, Loader=loader):
        if isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        elif isinstance(event, yaml.DocumentStartEvent):
            documents += 1
        elif isinstance(event, yaml.NodeEvent):
            nodes += 1
            depth += isinstance(event, yaml.CollectionStartEvent)
        if documents > 1:
            what, fix = "a second document begins here", "remove the line ---"
        elif depth > MAX_DEPTH:
            what, fix = f"lists and keys are nested deeper than {MAX_DEPTH}", "check the brackets"
        elif nodes > MAX_NODES:
            what, fix = f"more than {MAX_NODES} values", "check that this is the configuration file"
        else:
            continue
        raise YamlProblem(event.start_mark.line + 1 if event.start_mark else 1, 0, what, fix)


def _syntax(text: str, what: str, mark: yaml.Mark | None) -> YamlProblem:
    """YAML's own complaint, unless it quotes (the name of an anchor or tag) what could be a key."""
    if not what or KEY_LIKE.search(what):
        what = "it cannot be understood"
    what = CONTROL.sub("?", what if len(what) <= 120 else what[:119] + "…")
    line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
    lines = text.splitlines()
    indent = re.match(r"\s*", lines[line - 1]) if line <= len(lines) else None
    tabbed = indent is not None and "\t" in indent[0]
    fix = "indent with spaces, not with tabs" if tabbed else "look at this line and the one above it"
    return YamlProblem(line, column, f"is not valid YAML: {what}", fix)
