"""A tree of YAML nodes into typed structs, with every mistake found and placed. Nothing in here knows WireGuard.

The tree is read along the types of the structs (`msgspec.inspect` tells them), and strictly: a field of type `str`
wants a YAML string, an `int` a plain decimal number, and nothing is converted from one to the other. So `name: no`,
`name: 123` and `pid: 010` are mistakes with a line number, not surprises at run time. A field may bring a check of its
own, a function from value to value: `Annotated[str, msgspec.Meta(extra={"check": function})]`. With `"written"` beside
it (what such a value is called), the function gets the text as it stands in the file, not what YAML makes of it.

A mistake is one line, and one mistake does not hide the next: what is wrong is reported and left out, and the reading
goes on. (Checks across fields look only at the parts that are right in themselves.)
"""

from __future__ import annotations

import re
from enum import Enum
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec.inspect as mi
import yaml

from wg_exporter.config.text import CONTROL, KEY_LIKE, LOADER, MAX_NODES, YamlProblem, compose, shown

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import msgspec

MAX_PROBLEMS: Final = 200  # nobody reads more, and a hostile file has one for every other byte

_TAG = "tag:yaml.org,2002:"
_STR, _INT, _BOOL, _NULL, _SEQ, _MAP = (_TAG + name for name in ("str", "int", "bool", "null", "seq", "map"))
_TAGS = {_INT: "a number", _TAG + "float": "a number", _BOOL: "true or false", _TAG + "timestamp": "a date"}
_WHOLE = re.compile(r"-?(0|[1-9][0-9]{0,17})")
_DECIMAL = re.compile(r"-?[0-9]{1,18}(\.[0-9]{1,18})?([eE][-+]?[0-9]{1,2})?")


class Problem(NamedTuple):
    """Something a user got wrong or should know: where it is, what is wrong, what to do. Printed as one line."""

    where: str
    what: str
    fix: str = ""

    def __str__(self) -> str:
        return f"{self.where}: {self.what}" + (f"; {self.fix}" if self.fix else "")


class Invalid(Enum):
    """The value of what was wrong and has been reported."""

    INVALID = 0


INVALID: Final = Invalid.INVALID


class FieldError(Exception):
    """What a field's own check raises: what is wrong with the value, without the value, and what to do about it."""

    def __init__(self, what: str, fix: str = "") -> None:
        super().__init__(what, fix)
        self.what = what
        self.fix = fix


class _TooManyValues(Exception):  # noqa: N818  never leaves this file: it ends the reading, the problem is reported
    pass


def resembling(word: str, known: Iterable[str]) -> str:
    """The one of `known` that the user probably meant, or empty."""
    import difflib  # noqa: PLC0415 - only where there is a mistake

    return next(iter(difflib.get_close_matches(word[:64], known, 1)), "")


class Document:
    """One YAML text read into a struct. Afterwards `problems` holds what is wrong, in the order of the lines.

    `values` has what could be read, structs and all they are made of, by key path. It is for checks across fields; such
    a check reports with `wrong`, which knows the line of every key path.
    """

    def __init__(self, where: str, loader: Any = LOADER) -> None:
        self.values: dict[str, object] = {}
        self._where = CONTROL.sub("?", where)
        self._loader = loader
        self._lines: dict[str, int] = {}
        self._found: list[tuple[int, str, Problem]] = []
        self._nodes = 0

    @property
    def problems(self) -> tuple[Problem, ...]:
        """At most `MAX_PROBLEMS`, and then one more that says so."""
        found = [problem for _, _, problem in sorted(self._found, key=lambda found: found[0])]
        if len(found) > MAX_PROBLEMS:
            found[MAX_PROBLEMS:] = [Problem(self._where, f"more than {MAX_PROBLEMS} problems, the rest is not listed")]
        return tuple(found)

    def wrong(self, path: str, what: str, fix: str = "", line: int = 0) -> None:
        """Report a mistake. `line` is needed only where it is not that of the value at `path`."""
        line = line or self._lines.get(path, 1)
        if len(self._found) <= MAX_PROBLEMS:
            place = f"{self._where}:{line}" + (f": {path}" if path else "")
            self._found.append((line, path, Problem(place, what, fix)))

    def sound(self, section: str) -> bool:
        """Whether nothing wrong was found in a section, so that others may be held against it."""
        return not any(path.startswith(section) for _, path, _ in self._found)

    def read(self, text: str, kind: type[msgspec.Struct]) -> object:
        """The struct that `text` describes, `INVALID` if nothing could be made of it; empty text gives its defaults."""
        try:
            root = compose(text, self._loader)
            if root is None or _is_null(root):
                return kind()
            return self._value(root, mi.type_info(kind), "")
        except YamlProblem as error:
            column = f":{error.column}" if error.column else ""
            self._found.append((error.line, "", Problem(f"{self._where}:{error.line}{column}", error.what, error.fix)))
        except _TooManyValues:
            self.wrong("", f"aliases make more than {MAX_NODES} values of this file", "write the values out")
        return INVALID

    def _value(self, node: yaml.Node, kind: mi.Type, path: str) -> object:
        self._count()
        self._lines[path] = node.start_mark.line + 1
        kind, extra = _bare(kind)
        check = extra.get("check")
        match kind:
            case mi.StructType():
                value = self._struct(node, kind, path)
            case mi.VarTupleType():
                value = self._list(node, kind, path)
            case mi.DictType():
                value = self._dict(node, kind, path)
            case _:
                value = self._scalar(node, kind, path, extra.get("written", ""))
        try:
            if check and value is not INVALID:
                value = check(value)
        except FieldError as error:
            self.wrong(path, f"{error.what} ({shown(str(value))})", error.fix)
            return INVALID
        if value is not INVALID:
            self.values[path] = value
        return value

    def _count(self) -> None:
        self._nodes += 1
        if self._nodes > MAX_NODES:
            raise _TooManyValues

    def _struct(self, node: yaml.Node, kind: mi.StructType, path: str) -> object:
        fields = {field.encode_name: field for field in kind.fields}
        if not isinstance(node, yaml.MappingNode) or node.tag != _MAP:
            self.wrong(path, f"must be keys and values, not {_what(node)}", f"write it like {_like(fields)}")
            return INVALID
        values: dict[str, object] = {}
        seen: dict[str, int] = {}
        for key_node, value_node in node.value:
            self._count()
            key = self._key(key_node, path, seen)
            if key is None:
                continue
            if key not in fields:
                self._unknown(key, path, tuple(fields), seen[key])
                values[key] = INVALID
            elif not (_is_null(value_node) and _may_be_empty(fields[key].type)):
                values[fields[key].name] = self._value(value_node, fields[key].type, join(path, key))
        for key, field in fields.items():
            if field.required and field.name not in values:
                self.wrong(path, f"{key} is missing", f"add {key}: ...")
                values[field.name] = INVALID
        if len(seen) != len(node.value) or any(value is INVALID for value in values.values()):
            return INVALID
        return kind.cls(**values)

    def _key(self, node: yaml.Node, path: str, seen: dict[str, int]) -> str | None:
        line = node.start_mark.line + 1
        if not isinstance(node, yaml.ScalarNode):
            self.wrong(path, f"a key must be a word, not {_what(node)}", "check the brackets and the colons", line)
        elif node.value in seen:
            what = f"is given twice, first in line {seen[node.value]}"
            self.wrong(join(path, node.value), what, "keep one of them", line)
        else:
            seen[node.value] = line
            return str(node.value)
        return None

    def _unknown(self, key: str, path: str, known: tuple[str, ...], line: int) -> None:
        if len(self._found) > MAX_PROBLEMS:
            return  # the search for what was meant is slow
        if key == "<<":
            what, fix = "is a merge key, which is not supported", "write the keys out"
        else:
            what, meant = "is not a known key", resembling(key, known)
            fix = f"did you mean {meant}?" if meant else "the keys here are " + ", ".join(known)
        self.wrong(join(path, key), what, fix, line)

    def _list(self, node: yaml.Node, kind: mi.VarTupleType, path: str) -> object:
        if not isinstance(node, yaml.SequenceNode) or node.tag != _SEQ:
            self.wrong(path, f"must be a list, not {_what(node)}", "write it like [...], or as lines that begin with -")
            return INVALID
        values = [self._value(item, kind.item_type, f"{path}[{i}]") for i, item in enumerate(node.value)]
        return INVALID if any(value is INVALID for value in values) else tuple(values)

    def _dict(self, node: yaml.Node, kind: mi.DictType, path: str) -> object:
        """Any words as keys, each with a value of the same kind."""
        if not isinstance(node, yaml.MappingNode) or node.tag != _MAP:
            self.wrong(path, f"must be keys and values, not {_what(node)}", "write it as lines of name: value")
            return INVALID
        seen: dict[str, int] = {}
        values: dict[str, object] = {}
        for key_node, value_node in node.value:
            self._count()
            key = self._key(key_node, path, seen)
            if key is not None:
                values[key] = self._value(value_node, kind.value_type, join(path, key))
        return INVALID if len(seen) != len(node.value) or INVALID in values.values() else values

    def _scalar(self, node: yaml.Node, kind: mi.Type, path: str, written: str) -> object:
        names = {mi.StrType: "a string", mi.IntType: "a whole number", mi.FloatType: "a number"}
        wanted = written or names.get(type(kind), "true or false")
        if isinstance(kind, mi.EnumType):
            wanted = "one of " + ", ".join(member.value for member in kind.cls)
        if not isinstance(node, yaml.ScalarNode):
            self.wrong(path, f"must be {wanted}, not {_what(node)}")
            return INVALID
        if _is_null(node):
            self.wrong(path, "is empty", "give it a value, or remove the key")
            return INVALID
        if not node.tag.startswith(_TAG):
            self.wrong(path, "has a tag, which is not supported", "remove the word that begins with !")
            return INVALID
        try:
            return node.value if written else _read_scalar(node, kind, wanted)
        except FieldError as error:
            self.wrong(path, error.what, error.fix)
            return INVALID


def _read_scalar(node: yaml.ScalarNode, kind: mi.Type, wanted: str) -> object:
    """The value of a scalar that is not null. The text decides: to YAML 1.1, 010 is 8, 1:30 is 90 and off is false."""
    text, tag = node.value, node.tag
    quoted = node.style in {"'", '"', "|", ">"}
    match kind:
        case mi.EnumType(cls=words) if tag in (_STR, _BOOL) and text in {word.value for word in words}:
            return words(text)
        case mi.EnumType(cls=words) if tag == _BOOL and {"true", "false"} <= {word.value for word in words}:
            return words(_truth(text))
        case mi.StrType() if tag == _STR:
            return text
        case mi.StrType():
            what = f"must be a string, but {shown(text)} without quotes is {_TAGS.get(tag, 'something else')}"
            raise FieldError(what, "put it in quotes")
        case mi.IntType(ge=low, le=high) if tag == _INT and _WHOLE.fullmatch(text):
            _within(int(text), low, high)
            return int(text)
        case mi.FloatType(ge=low, le=high) if tag != _BOOL and not quoted and _DECIMAL.fullmatch(text):
            _within(float(text), low, high)
            return float(text)
        case mi.BoolType() if tag == _BOOL:
            return _truth(text) == "true"
    fix = ""
    if isinstance(kind, mi.EnumType):
        meant = resembling(text.casefold(), (member.value for member in kind.cls))
        fix = f"did you mean {meant}?" if meant else ""
    elif isinstance(kind, mi.FloatType) and re.fullmatch(r"[0-9]{1,3}(\.[0-9]{1,6})? ?%", text):
        fix = f"write {float(text.rstrip(' %')) / 100:g}"
    elif quoted:
        fix = "remove the quotes"
    elif tag == _INT and isinstance(kind, mi.IntType | mi.FloatType) and not re.fullmatch("-?[1-9][0-9]*", text):
        fix = "write it in decimal, without leading zeros"
    raise FieldError(f"must be {wanted} ({shown(text)})", fix)


def _truth(text: str) -> str:
    return "true" if text.lower() in ("true", "yes", "on") else "false"


def _within(number: float, low: float | None, high: float | None) -> None:
    if low is not None and number < low:
        raise FieldError(f"must be at least {low} ({number})", f"write {low} or more")
    if high is not None and number > high:
        raise FieldError(f"must be at most {high} ({number})", f"write {high} or less")


def _bare(kind: mi.Type) -> tuple[mi.Type, dict[str, Any]]:
    """A type without its annotations and without `| None`, and what the annotations bring along."""
    extra: dict[str, Any] = {}
    while isinstance(kind, mi.Metadata | mi.UnionType):
        if isinstance(kind, mi.Metadata):
            extra = (kind.extra or {}) | extra
            kind = kind.type
        else:
            kind = next(part for part in kind.types if not isinstance(part, mi.NoneType))
    return kind, extra


def _may_be_empty(kind: mi.Type) -> bool:
    """Whether a key without a value is as if it were not there: in a section, unless that would turn something off."""
    bare, extra = _bare(kind)
    return isinstance(bare, mi.StructType | mi.VarTupleType | mi.DictType) and extra.get("empty") != "wrong"


def _is_null(node: yaml.Node) -> bool:
    return isinstance(node, yaml.ScalarNode) and node.tag == _NULL


def _like(fields: Mapping[str, mi.Field]) -> str:
    """How to write a mapping, with the key that it can't do without, or that turns it on."""
    first = next((key for key, field in fields.items() if field.required), next(iter(fields)))
    return "{enabled: true}" if "enabled" in fields else f"{{{first}: ...}}"


def _what(node: yaml.Node) -> str:
    if isinstance(node, yaml.ScalarNode):
        return "nothing" if _is_null(node) else shown(node.value)
    kind = "a list" if isinstance(node, yaml.SequenceNode) else "keys and values"
    return kind if node.tag in (_SEQ, _MAP) else "a value with a tag"


def join(path: str, key: str) -> str:
    """The key path of a key at a path; one that is no plain word is shown as values are."""
    plain = re.fullmatch("[A-Za-z0-9_-]{1,40}", key) and not KEY_LIKE.search(key)
    return ".".join(filter(None, (path, key if plain else f"({shown(key)})")))
