"""Labels and numbers, which the two formats write alike, and the headers of families, which they don't."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from wg_exporter.metric import Metric

# No source lets a lone surrogate in. If one did, a question mark would replace it, and the scrape go on.
NOT_UNICODE = "replace"


def escape(value: str) -> str:
    """A label value as both formats want it: backslash, line feed and double quote escaped."""
    if "\\" in value or "\n" in value or '"' in value:
        return value.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')
    return value


def inner(pairs: Iterable[tuple[str, str]]) -> str:
    """`name="value",...`, empty where there is no label."""
    return ",".join([f'{name}="{escape(value)}"' for name, value in pairs])


def label_block(pairs: Iterable[tuple[str, str]]) -> str:
    """`{name="value",...}`, empty where there is no label."""
    labels = inner(pairs)
    return f"{{{labels}}}" if labels else ""


def number(value: float) -> str:
    """A value without loss: integers as they are, floats by their shortest exact form."""
    return repr(value)


@lru_cache(maxsize=1024)
def header(metric: Metric, *, openmetrics: bool) -> bytes:
    """The metadata lines of a family."""
    name = metric.family if openmetrics else metric.name
    text = metric.help.replace("\\", "\\\\").replace("\n", "\\n")
    lines = f"# TYPE {name} {metric.kind}\n"
    if openmetrics:
        text = text.replace('"', '\\"')
        if metric.unit:
            lines += f"# UNIT {name} {metric.unit}\n"
    return f"# HELP {name} {text}\n{lines}".encode()
