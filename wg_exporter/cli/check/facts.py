"""What is known of an installation before anything is judged. Rows without a method that opens anything.

None of them has a field for a key, a password or the hash of one. None as a value means that it is not known.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from wg_exporter.config import Config
    from wg_exporter.config.tree import Problem
    from wg_exporter.model import ConfFile
    from wg_exporter.status.rows import Overview


class FileFact(NamedTuple):
    """A file, or why nothing is known of it (`problem`, one line). `enclosed`: a directory above it keeps others out.

    `directory_mode` is that of its directory; 0 = not known.
    """

    path: str
    mode: int = 0o600
    uid: int = 0
    enclosed: bool = False
    directory_mode: int = 0
    problem: str = ""


class ConfigFacts(NamedTuple):
    """The configuration: what its file says (`config`, the default without a file), or what is wrong with it.

    `unseen` says why it was not looked at, in one line.
    """

    config: Config | None
    file: FileFact | None = None
    problems: tuple[Problem, ...] = ()
    unseen: str = ""


class CertificateFact(NamedTuple):
    """When a certificate is valid, in seconds since the epoch."""

    path: str
    not_before: float
    not_after: float


class WebFacts(NamedTuple):
    """The web configuration. `costs` are the bcrypt costs of passwords by user. `key` is the file with the private key,
    which may be the configuration itself. `tls_problem` says why its certificate and key can't be used, `tls_unseen`
    why that is not known. `asks`: whoever asks needs a password or a certificate.
    """

    file: FileFact
    problems: tuple[Problem, ...] = ()
    tls: bool = False
    tls_problem: str = ""
    tls_unseen: str = ""
    certificate: CertificateFact | None = None
    key: FileFact | None = None
    costs: tuple[tuple[str, int], ...] = ()
    asks: bool = False


class Owner(NamedTuple):
    """The process that listens on a port; pid 0 and an empty command where that can't be seen."""

    pid: int = 0
    command: str = ""


class ListenFact(NamedTuple):
    """An address to listen on. `everywhere`: it is every address of the host. `problem`: why this host can't listen
    there. `taken`: who listens there already, None = nobody. `guessed`: it is the default, as nobody named another.
    """

    address: str
    everywhere: bool = False
    problem: str = ""
    taken: Owner | None = None
    guessed: bool = False


class Running(NamedTuple):
    """The exporter that listens on the Unix socket. `ready` is why it is not ready, empty if it is.

    `parted`: it is several processes. `elsewhere`: it has another file system, as in a container.
    """

    pid: int
    uid: int
    ready: str = ""
    parted: bool = True
    elsewhere: bool = False


class ExporterFacts(NamedTuple):
    """What answers at the Unix socket. `unasked` says why nothing does; `denied`: only because we may not ask.

    `overview` is how the host is, as the exporter says or, where it says nothing, as one look of ours shows.
    `other_config` is the configuration file of an exporter that has another than was given.
    """

    socket: str
    version: str = ""
    running: Running | None = None
    unasked: str = ""
    denied: bool = False
    overview: Overview | None = None
    other_config: str | None = None


class UnitFacts(NamedTuple):
    """The systemd unit, in its own words (systemctl(1), show). `capabilities` is its bounding set in lower case.

    `writable` are the directories that it may write to, None = all that its user may, or not known.
    """

    active: str
    enabled: str
    result: str = "success"
    exit_code: int = 0
    capabilities: frozenset[str] | None = None
    writable: tuple[str, ...] | None = None


class ConfFact(NamedTuple):
    """A file of WireGuard: how it lies there, and what it says (None: a drop-in, or a file of keys)."""

    file: FileFact
    secret: bool
    row: ConfFile | None = None


class NamespaceFact(NamedTuple):
    """A configured network namespace, and whether there is one at its path."""

    name: str
    path: str
    there: bool | None


class KernelFacts(NamedTuple):
    """Whether the kernel has the netlink family of WireGuard, and whether a module that has it could be loaded; its
    release (uname -r), empty = not known.
    """

    family: bool | None
    loadable: bool | None
    release: str = ""


class ClockFacts(NamedTuple):
    """The wall clock and when the program was installed, in seconds since the epoch; whether the clock is kept right by
    anything.
    """

    wall: float
    installed: float = 0.0
    synchronised: bool | None = True


class HostFacts(NamedTuple):
    """What is known of this host. `flags_unseen`: why it is not known with which flags the exporter runs.
    `track_files_problem` is why an exporter could not write track files, empty if nothing is seen that speaks against
    it.
    """

    exporter: ExporterFacts
    kernel: KernelFacts
    unit: UnitFacts | None = None
    listen: tuple[ListenFact, ...] = ()
    flags_unseen: str = ""
    conf: tuple[ConfFact, ...] = ()
    conf_unseen: str = ""
    namespaces: tuple[NamespaceFact, ...] = ()
    missing_users: tuple[str, ...] = ()
    socket_directory: bool = True
    track_files_problem: str = ""


class Facts(NamedTuple):
    """All of them. `host` is None where files alone are checked. `uid` is who checks."""

    config: ConfigFacts
    clock: ClockFacts
    web: WebFacts | None = None
    host: HostFacts | None = None
    uid: int = 0
