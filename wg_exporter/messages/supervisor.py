"""What the exporter and its supervisor say to each other.

The exporter can ask for three things: that one of the two other processes is started, with its end of a socket; that
one of these is ended; that the configuration is read again. It names no path, no program and no user.
"""

from __future__ import annotations

from enum import StrEnum

from wg_exporter.config.tree import Problem  # noqa: TC001 - msgspec reads the annotations
from wg_exporter.messages.channel import Message
from wg_exporter.model import Usage  # noqa: TC001 - msgspec reads the annotations


class Role(StrEnum):
    """The processes that can be asked for."""

    READER = "reader"
    PROBER = "prober"


class Start(Message):
    """Start this process for the configuration of this number. With it goes the process's end of a socket."""

    request: int
    role: Role
    configuration: int


class Kill(Message):
    """End a process that was started, at once."""

    pid: int


class Load(Message):
    """Read the configuration file again."""

    request: int


class Ready(Message):
    """The exporter serves."""


class Started(Message):
    """The answer to `Start`: the process id or, where that is 0, why there is none."""

    request: int
    pid: int
    problem: str = ""


class Ended(Message):
    """A process has ended: its exit code, or minus the number of the signal that ended it."""

    pid: int
    code: int


class ResolverEnded(Message):
    """A resolver of host names has ended, or could not be started: it is, in so many seconds, once it is asked."""

    again_in_seconds: float


class Loaded(Message):
    """The answer to `Load`: the number of a new configuration, with its text as an open file; or what is wrong."""

    request: int
    configuration: int
    problems: tuple[Problem, ...] = ()


class WebMaterial(Message):
    """The web configuration has changed, or is told for the first time. With it come, as open files, its text and then
    the files that it names, in the order of `names`. If it can't be read there is nothing but the reasons; if its
    certificate or key can't be, its text and the reasons.
    """

    names: tuple[str, ...]
    problems: tuple[Problem, ...] = ()


class Reload(Message):
    """Somebody asked for a reload with SIGHUP."""


class Cost(Message):
    """What the supervisor has cost, told now and then."""

    usage: Usage


ToSupervisor = Start | Kill | Load | Ready
FromSupervisor = Started | Ended | ResolverEnded | Loaded | WebMaterial | Reload | Cost
