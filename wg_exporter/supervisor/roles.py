"""What each process becomes: as which user, with which rights, and what it runs."""

from __future__ import annotations

import os
import pwd
from typing import TYPE_CHECKING

from wg_exporter.linux.privileges import (
    CAP_DAC_READ_SEARCH,
    CAP_KILL,
    CAP_NET_ADMIN,
    CAP_NET_RAW,
    CAP_SETGID,
    CAP_SETPCAP,
    CAP_SETUID,
    NOBODY,
    User,
    keep_only,
    name_process,
    open_to_all,
    reduce_effective,
    to_count,
    to_enter,
    to_probe,
)
from wg_exporter.prober.__main__ import run as probe
from wg_exporter.reader import process
from wg_exporter.reader.host import host_sources
from wg_exporter.resolver.__main__ import run as resolve
from wg_exporter.sources import SYSTEM_CLOCK

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from wg_exporter.config import Config
    from wg_exporter.supervisor.resolvers import Resolvers

# Where nobody made these users, numbers stand in that nothing else uses (systemd's docs/UIDS-GIDS.md).
WEB, PROBER, RESOLVER = "wg-exporter", "wg-exporter-probe", "wg-exporter-dns"
NO_WEB, NO_PROBER, NO_RESOLVER = User(65533, 65533), NOBODY, User(65532, 65532)

OWN = {CAP_SETUID, CAP_SETGID, CAP_SETPCAP, CAP_KILL}
HANDED_ON = {CAP_NET_ADMIN, CAP_NET_RAW, CAP_DAC_READ_SEARCH}


def become_parent(config: Config, *, reloadable: bool) -> None:
    """Give up what none of the processes needs. Raises OSError.

    `reloadable`: there is a configuration file, and a later version of it may ask for other namespaces, or to count
    packets.
    """
    name_process("wg-exporter")
    counting = to_count(os.uname().release) if reloadable or config.accounting.enabled else set()
    keep_only(OWN | HANDED_ON | counting | to_enter(["any"] if reloadable else _paths(config)))
    reduce_effective(OWN)


def reader(resolvers: Resolvers, config: Config) -> Callable[[socket.socket], None]:
    """What a reader does: root, for root's files and control sockets are only root's; and the kernel's peers."""
    names = resolvers.connect() if config.dns.resolve else None

    def run(sock: socket.socket) -> None:
        name_process("wg-read")
        counting = to_count(os.uname().release) if config.accounting.enabled else set()
        keep_only({CAP_NET_ADMIN, CAP_DAC_READ_SEARCH} | counting | to_enter(_paths(config)))
        process.run(sock, host_sources(config, SYSTEM_CLOCK, names.take if names else None, serving=True))

    return run


def resolver(sock: socket.socket) -> None:
    """What a resolver does: a user of its own, without any right."""
    name_process("wg-dns")
    resolve(sock, lambda: keep_only((), user(RESOLVER, NO_RESOLVER)))


def prober(config: Config) -> Callable[[socket.socket], None]:
    """What a prober does: a user of its own, with raw sockets."""

    def run(sock: socket.socket) -> None:
        name_process("wg-probe")
        namespaces = {place.name: place.path for place in config.namespaces}
        reachable = all(map(open_to_all, namespaces.values()))
        rights = to_probe(namespaces.values(), os.uname().release)
        probe(sock, namespaces, lambda: keep_only(rights, user(PROBER, NO_PROBER) if reachable else None))

    return run


def become_web() -> None:
    """Become the process that strangers talk to: a user of its own, without any right. Raises OSError."""
    name_process("wg-web")
    keep_only((), web_user())


def web_user() -> User:
    """Whom it becomes."""
    return user(WEB, NO_WEB)


def user(name: str, otherwise: User) -> User:
    """The user of this name, or who stands in where there is none."""
    try:
        found = pwd.getpwnam(name)
    except KeyError:
        return otherwise
    return User(found.pw_uid, found.pw_gid)


def _paths(config: Config) -> list[str]:
    return [place.path for place in config.namespaces]
