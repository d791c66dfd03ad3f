"""What the user may configure, as frozen structs, and the checks that hold one setting against another.

Everything has a default: no file, an empty file and `Config()` are the same thing. A section is a struct and a field of
`Config`; its meaning for users is the text beside each field, from which `docs/configuration.md` is generated. To add
one, write the struct, give `Config` a field and, if settings can contradict each other, add a function to `_RULES`.

Patterns are those of a shell, upper and lower case distinguished (`fnmatch.fnmatchcase`).
"""

from __future__ import annotations

import hashlib
import ipaddress
import re
import shlex
from enum import StrEnum
from fnmatch import fnmatchcase
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Final, TypeVar

import msgspec
from msgspec import Meta, Struct, field

from wg_exporter.config import fields as kinds  # noqa: TC001  msgspec reads the types of fields at run time
from wg_exporter.config.accounting import Accounting as Accounting
from wg_exporter.config.compat import Compat as Compat
from wg_exporter.config.compat import MindFlavor as MindFlavor
from wg_exporter.config.dns import Dns as Dns
from wg_exporter.config.dns import check_dns
from wg_exporter.config.fast import Fast as Fast
from wg_exporter.config.fast import check_fast
from wg_exporter.config.files import ConfigError as ConfigError
from wg_exporter.config.files import place as place
from wg_exporter.config.files import read as read
from wg_exporter.config.health import HealthLimits as HealthLimits
from wg_exporter.config.probe import MtuProbe as MtuProbe
from wg_exporter.config.probe import ProbeSettings as ProbeSettings
from wg_exporter.config.probe import Probing as Probing
from wg_exporter.config.probe import check_probe
from wg_exporter.config.text import shown
from wg_exporter.config.tree import Document, resembling

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Collection

S = TypeVar("S", bound=Struct)


class Expected(StrEnum):
    """Whether a peer should always be up: yes, no, or as its keepalive and its configured endpoint say."""

    UP = "up"
    ANY = "any"
    AUTO = "auto"


class EndpointMode(StrEnum):
    """How much of a peer's endpoint becomes a label: address and port, the address alone, or nothing."""

    FULL = "full"
    ADDRESS = "address"
    OFF = "off"


class Routes(StrEnum):
    """Whether this host's own routes to what lies behind an interface are looked at."""

    CHECK = "check"
    IGNORE = "ignore"


def _text(description: str) -> Meta:
    return Meta(description=description)


class InterfaceSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """What holds for single interfaces. Of several entries that match, the first counts."""

    interface: Annotated[kinds.InterfacePattern, _text("The interfaces: those that match this.")]
    routes: Annotated[
        Routes,
        _text(
            "`check`: a peer is degraded (`not_routed`) while this host itself sends packets for its target elsewhere. "
            "`ignore`: that is meant to be so."
        ),
    ]


class Interfaces(Struct, frozen=True, forbid_unknown_fields=True):
    """Which WireGuard interfaces are served, by their names, in all network namespaces."""

    include: Annotated[tuple[kinds.InterfacePattern, ...], _text("Serve the interfaces that match one of these.")] = (
        "*",
    )
    exclude: Annotated[
        tuple[kinds.InterfacePattern, ...], _text("Leave out the interfaces that match one of these.")
    ] = ()
    expect: Annotated[
        tuple[kinds.ExpectedInterface, ...],
        _text(
            "Interfaces that must exist: `wireguard_interface_up` is there from the start, and 0 while they do not. "
            "`wg0` is in the exporter's own namespace, `blue/wg0` in the one named `blue` under `namespaces`."
        ),
    ] = ()
    settings: Annotated[tuple[InterfaceSettings, ...], _text("Settings of single interfaces.")] = ()

    def wanted(self, name: str) -> bool:
        """Whether the interface of this name is to be served."""
        included = any(fnmatchcase(name, pattern) for pattern in self.include)
        return included and not any(fnmatchcase(name, pattern) for pattern in self.exclude)

    def routes(self, name: str) -> Routes:
        """Whether routes into the interface of this name are looked at."""
        found = (entry.routes for entry in self.settings if fnmatchcase(name, entry.interface))
        return next(found, Routes.CHECK)

    @property
    def expected(self) -> tuple[tuple[str, str], ...]:
        """`expect` as (netns, name); netns is empty for the exporter's own namespace."""
        return tuple((netns, name) for netns, _, name in (item.rpartition("/") for item in self.expect))


class NamespaceConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """Another network namespace with interfaces to serve. At most one of `netns`, `path` and `pid` says where it is."""

    name: Annotated[
        kinds.NamespaceName,
        _text("Value of the `netns` label, unique. Alone, it is also the name of the namespace, as for `netns`."),
    ]
    netns: Annotated[kinds.NamespaceName | None, _text("Name under `/run/netns`, as `ip netns` lists it.")] = None
    # The key is `path`; the attribute of that name answers for all three ways.
    file: Annotated[kinds.AbsolutePath | None, _text("File of the namespace, such as `/proc/1234/ns/net`.")] = field(
        name="path", default=None
    )
    pid: Annotated[kinds.Pid | None, _text("A process that lives in the namespace.")] = None

    @property
    def path(self) -> str:
        """The file to open and enter (setns(2))."""
        if self.pid is not None:
            return f"/proc/{self.pid}/ns/net"
        return self.file or f"/run/netns/{self.netns or self.name}"

    @property
    def entry(self) -> str:
        """What a shell command begins with to be run in the namespace, a blank at its end (ip-netns(8), nsenter(1))."""
        if self.pid is None and self.file is None:
            return f"ip netns exec {shlex.quote(self.netns or self.name)} "
        return f"nsenter --net={shlex.quote(self.path)} "


class PeerConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """What people know of a peer. It goes before every name in WireGuard's own files."""

    public_key: Annotated[kinds.PublicKey, _text("The peer.")]
    interface: Annotated[
        kinds.InterfaceName | None,
        _text("Only on this interface. An entry with an interface goes before one without."),
    ] = None
    name: Annotated[kinds.PeerName | None, _text("Friendly name: the `peer` label of every metric of the peer.")] = None
    target: Annotated[
        kinds.Address | None, _text("Address of the peer inside the tunnel, which probes are sent to.")
    ] = None
    probe: Annotated[Probing | None, _text("Whether this peer is probed, in place of `probe.enabled`.")] = None
    interval: Annotated[
        kinds.EchoInterval | None, _text("Time between two small echoes to this peer, in place of `probe.interval`.")
    ] = None
    fast: Annotated[
        Fast | None,
        Meta(
            description="Fast echoes to this peer, for failover; `{}` takes the defaults. They come beside the small "
            "echoes.",
            extra={"empty": "wrong"},
        ),
    ] = None


# It has a `__dict__`, in which the parsed network is kept.
class ExpectRule(Struct, frozen=True, forbid_unknown_fields=True, dict=True):
    """Which peers should always be up. The first rule that matches decides; a rule matches if all its conditions do.

    A rule without conditions matches every peer, so it can only be the last. Without a matching rule, `auto` holds.
    """

    state: Annotated[
        Expected,
        _text(
            "`up`: should always be up. `any`: need not be. `auto`: should be up if it has a persistent keepalive and "
            "the configuration file of its device names its endpoint; where no file describes the device, the "
            "keepalive alone decides."
        ),
    ]
    interface: Annotated[kinds.InterfacePattern | None, _text("Condition: the interface matches this.")] = None
    name: Annotated[
        kinds.Pattern | None, _text("Condition: the friendly name matches this. A peer without one matches only `*`.")
    ] = None
    allowed_ip: Annotated[
        kinds.Network | None, _text("Condition: one of the peer's allowed IPs lies within this network.")
    ] = None
    public_key: Annotated[kinds.PublicKey | None, _text("Condition: it is this peer.")] = None

    @cached_property
    def network(self) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
        """`allowed_ip`, parsed."""
        return None if self.allowed_ip is None else ipaddress.ip_network(self.allowed_ip)


class Metrics(Struct, frozen=True, forbid_unknown_fields=True):
    """What to leave out of `/metrics`: for those who pay by the series, and to whom an address is personal data."""

    exclude: Annotated[
        tuple[kinds.MetricPattern, ...], _text("Leave out the metrics whose names match one of these.")
    ] = ()
    endpoint: Annotated[
        EndpointMode,
        _text("The `endpoint` label of `wireguard_peer_info`: address and port, the address alone, or nothing."),
    ] = EndpointMode.FULL

    def excluded(self, metric_name: str) -> bool:
        """Whether the metric of this full name is left out."""
        return any(fnmatchcase(metric_name, pattern) for pattern in self.exclude)


class Web(Struct, frozen=True, forbid_unknown_fields=True):
    """Who is answered over TCP. The Unix socket is not concerned."""

    allowed_hosts: Annotated[
        tuple[kinds.HostName, ...],
        _text(
            "Names and addresses by which the exporter may be called (the header `Host`); any other gets 421. It keeps "
            "web pages of others from reading it with a name of theirs that leads here (DNS rebinding). `[]` = any."
        ),
    ] = ()

    def allows(self, host: str) -> bool:
        """Whether a request with this header `Host` is answered."""
        if not self.allowed_hosts:
            return True
        name = host[1:].partition("]")[0] if host.startswith("[") else host.rpartition(":")[0] or host
        if ":" in name and not host.startswith("["):  # an IPv6 address without brackets, and so without a port
            name = host
        return name.rstrip(".").lower() in self.allowed_hosts


class Config(Struct, frozen=True, forbid_unknown_fields=True):
    """The whole configuration."""

    interfaces: Annotated[Interfaces, _text("Which interfaces are served.")] = Interfaces()
    namespaces: Annotated[tuple[NamespaceConfig, ...], _text("Other network namespaces to look in.")] = ()
    names: Annotated[
        tuple[kinds.PathPattern, ...] | None,
        _text(
            "wg-quick and systemd-networkd files to take friendly names from, and to compare devices with (drift). By "
            "default `/etc/wireguard/*.conf`, `/etc/amnezia/amneziawg/*.conf` and `*.netdev` where systemd-networkd "
            "looks; `[]` reads none."
        ),
    ] = None
    peers: Annotated[tuple[PeerConfig, ...], _text("Names and addresses of peers, and how they are probed.")] = ()
    expect: Annotated[tuple[ExpectRule, ...], _text("Which peers should always be up.")] = ()
    probe: Annotated[ProbeSettings, _text("Which peers are probed, and how often.")] = ProbeSettings()
    dns: Annotated[Dns, _text("What becomes of the host names of endpoints.")] = Dns()
    track_files: Annotated[
        kinds.OwnDirectory | None,
        _text(
            "Directory with a file for each peer with `fast`, for keepalived's `track_file` (docs/failover.md). The "
            "exporter makes it, and nobody else writes there. A change takes a restart."
        ),
    ] = None
    health: Annotated[HealthLimits, _text("When a peer is down or degraded.")] = HealthLimits()
    accounting: Annotated[Accounting, _text("Packets of each peer.")] = Accounting()
    metrics: Annotated[Metrics, _text("What to leave out of `/metrics`.")] = Metrics()
    web: Annotated[Web, _text("Who is answered.")] = Web()
    compat: Annotated[Compat, _text("What the pages for dashboards of other exporters show.")] = Compat()

    def entries(self) -> dict[str, str]:
        """What a shell command begins with to be run in each namespace, by its name."""
        return {"": ""} | {place.name: place.entry for place in self.namespaces}


def parse(text: str, where: str, metric_names: Collection[str] = ()) -> Config:
    """The configuration that a YAML text describes. `where` is the name of the file, for messages.

    With `metric_names`, every pattern under `metrics.exclude` has to match one of them. Raises `ConfigError`, with all
    problems in the order of the lines and no value that looks like a key.
    """
    document = Document(where)
    config = document.read(text, Config)
    for rule in _RULES:
        rule(document)
    _check_metrics(document, metric_names)
    if document.problems or not isinstance(config, Config):
        raise ConfigError(document.problems)
    return config


def load(path: pathlib.Path, metric_names: Collection[str] = ()) -> Config:
    """The configuration in a file of at most 1 MiB. Raises `ConfigError`, also if the file can't be read."""
    return parse(read(path), place(path), metric_names)


def fingerprint(config: Config) -> str:
    """A short name of all that a configuration says: two of one version of the program are the same if this is."""
    return hashlib.sha256(msgspec.json.encode(config, order="deterministic")).hexdigest()[:16]


def _parts(document: Document, kind: type[S]) -> list[tuple[str, S]]:
    return [(path, value) for path, value in document.values.items() if isinstance(value, kind)]


def _texts(document: Document, path: str) -> list[tuple[str, str]]:
    """The strings at a key path, `[*]` in it standing for every place in a list."""
    places = re.compile(re.escape(path).replace(r"\[\*\]", r"\[[0-9]+\]"))
    return [(at, text) for at, text in document.values.items() if isinstance(text, str) and places.fullmatch(at)]


def _check_namespaces(document: Document) -> None:
    names: dict[str, str] = {}
    for path, name in _texts(document, "namespaces[*].name"):
        first = names.setdefault(name, path)
        if first != path:
            document.wrong(path, f"is the same as {first} ({shown(name)})", "each namespace needs a name of its own")
    files: dict[str, str] = {}
    for path, namespace in _parts(document, NamespaceConfig):
        first = files.setdefault(namespace.path, path)
        if sum(given is not None for given in (namespace.netns, namespace.file, namespace.pid)) > 1:
            document.wrong(path, "has more than one of netns, path and pid", "keep the one that is right")
        elif first != path and names[namespace.name] == f"{path}.name":
            document.wrong(path, f"is the same namespace as {first} ({shown(namespace.path)})", "remove one of the two")


def _check_interfaces(document: Document) -> None:
    namespaces = [name for _, name in _texts(document, "namespaces[*].name")]
    for path, interface in _texts(document, "interfaces.expect[*]"):
        netns = interface.rpartition("/")[0]
        if netns and netns not in namespaces and document.sound("namespaces"):
            meant = resembling(netns, namespaces)
            fix = f"did you mean {shown(meant)}?" if meant else "add it there"
            document.wrong(path, f"no entry of namespaces has this name ({shown(netns)})", fix)
    for path, interfaces in _parts(document, Interfaces):
        if not interfaces.include:
            document.wrong(
                f"{path}.include", "is empty, so nothing is served", "remove the key to serve all interfaces"
            )
            continue
        for i, (_, name) in enumerate(interfaces.expected):
            if not interfaces.wanted(name):
                fix = "remove it here, or change include and exclude"
                document.wrong(f"{path}.expect[{i}]", f"is expected but not served ({shown(name)})", fix)


def _check_peers(document: Document) -> None:
    seen: dict[tuple[str, str | None], str] = {}
    for path, peer in _parts(document, PeerConfig):
        if {peer.name, peer.target, peer.probe, peer.interval, peer.fast} == {None}:
            document.wrong(path, "says nothing about the peer", "give it a name or a target, or remove it")
        first = seen.setdefault((peer.public_key, peer.interface), path)
        if first != path:
            document.wrong(path, f"is about the same peer as {first}", "make one entry of the two")
    check_fast(document, _parts(document, Fast))


def _check_expect(document: Document) -> None:
    """A rule after one with the same conditions, or with none, is never reached."""
    seen: dict[tuple[str | None, ...], str] = {}
    for path, rule in _parts(document, ExpectRule):
        # The pattern `*` is no condition.
        patterns = (pattern if pattern and pattern.strip("*") else None for pattern in (rule.interface, rule.name))
        conditions = (*patterns, rule.allowed_ip, rule.public_key)
        first = seen.setdefault(conditions, path)
        if first != path:
            document.wrong(path, f"is never reached, {first} has the same conditions", "remove one of the two")
        elif (every := seen.get((None, None, None, None), path)) != path:
            document.wrong(path, f"is never reached, {every} matches every peer", f"move {every} to the end")


def _check_metrics(document: Document, metric_names: Collection[str]) -> None:
    for path, pattern in _texts(document, "metrics.exclude[*]") if metric_names else ():
        if not any(fnmatchcase(name, pattern) for name in metric_names):
            meant = resembling(pattern, metric_names)
            fix = f"did you mean {meant}?" if meant else "remove it, or look the name up at /metrics"
            document.wrong(path, f"matches no metric ({shown(pattern)})", fix)


_RULES: Final = (_check_namespaces, _check_interfaces, _check_peers, _check_expect, check_probe, check_dns)
