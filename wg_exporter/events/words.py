"""An event in words: whom it is about, and what happened. The terminal, the page and the API say the same."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from wg_exporter.events import NOT_STOPPED, Kind, Life, Process

if TYPE_CHECKING:
    from wg_exporter.events import Event

_NAMES = {
    Process.EXPORTER: "wg-exporter",
    Process.READER: "the reader",
    Process.PROBER: "the prober",
    Process.RESOLVER: "the resolver of host names",
}
_LIVES = {
    Life.STARTED: "was started",
    Life.STOPPED: "was stopped",
    Life.FAILED: "failed",
    Life.RECOVERED: "works again",
}


def whom(event: Event) -> str:
    """Whom it is about: `berlin on wg0`, `wg0`, `wg0 in blue`; empty: the exporter."""
    where = event.interface + (f" in {event.netns}" if event.netns else "")
    who = event.name or event.public_key[:8]
    return f"{who} on {where}" if who and where else where


def what(event: Event) -> str:
    """What happened: `down (was up): handshake_unanswered, cause silent: 2 initiations unanswered for 27 s`."""
    said = _SAID[event.kind](event)
    if event.peers:
        said = f"{event.peers:,} peers: {said}"
    return f"{said} (quiet)" if event.quiet and event.kind is not Kind.QUIET else said


def sentence(event: Event) -> str:
    """Both in a line."""
    who = whom(event)
    return f"{who}: {what(event)}" if who else what(event)


def _joined(*parts: str) -> str:
    return ": ".join(filter(None, parts))


def _was(event: Event) -> str:
    return f" (was {event.before})" if event.before else ""


def _why(event: Event) -> str:
    return f"{event.reason}, cause {event.cause}" if event.cause and event.reason else event.reason


def _state(event: Event) -> str:
    return _joined(event.after + _was(event), _why(event), event.evidence)


def _reason(event: Event) -> str:
    return _joined(f"still {event.after}, now {_why(event)}", event.evidence)


def _cause(event: Event) -> str:
    sure = f" ({event.confidence})" if event.confidence else ""
    return _joined(f"cause {event.cause}{sure}", event.evidence)


def _roaming(event: Event) -> str:
    return f"roamed to {event.after}{_was(event)}" if event.after else "roamed"


def _mtu(event: Event) -> str:
    return _joined(f"MTU verdict {event.after}{_was(event)}", event.evidence)


def _fast(event: Event) -> str:
    return _joined(f"{event.after} by fast echoes{_was(event)}", event.evidence)


def _drift(event: Event) -> str:
    file = event.evidence or "its file"
    return f"differs from {file}: {event.after}{_was(event)}" if event.after else f"as {file} says again{_was(event)}"


def _quiet(event: Event) -> str:
    if event.after != "begun":
        return _joined("pages again", event.evidence)
    end = datetime.fromtimestamp(event.until, UTC).isoformat(sep=" ", timespec="seconds").replace("+00:00", " UTC")
    return _joined(f"quiet until {end}", event.evidence)


def _reload(event: Event) -> str:
    done = "configuration reloaded" if event.after == "success" else "configuration not reloaded"
    return _joined(done, event.evidence)


def _process(event: Event) -> str:
    name = _NAMES[event.process] if event.process else "a process"
    said = f"{name} {_LIVES.get(Life(event.after)) if event.after in set(Life) else event.after}"
    if event.reason == NOT_STOPPED:
        said += "; the one before was not stopped: it was killed, or the host went down"
    return _joined(said, event.evidence)


_SAID = {
    Kind.STATE: _state,
    Kind.REASON: _reason,
    Kind.CAUSE: _cause,
    Kind.ROAMING: _roaming,
    Kind.MTU: _mtu,
    Kind.FAST: _fast,
    Kind.DRIFT: _drift,
    Kind.QUIET: _quiet,
    Kind.RELOAD: _reload,
    Kind.PROCESS: _process,
}
