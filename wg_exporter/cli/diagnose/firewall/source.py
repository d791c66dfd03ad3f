"""Reads the ruleset of the network namespace of the calling thread from the kernel, and the text of rules from nft(8).

The kernel is asked by netlink, with a deadline, so that no program is needed to decide. `nft`, where it is there,
writes rules as people know them; without it they are named by table, chain and handle, by which `nft delete` knows
them.

Asking loads no module: where nf_tables is not loaded there are no rules.
"""

from __future__ import annotations

import re
import subprocess
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from wg_exporter.cli.diagnose.firewall import decode
from wg_exporter.cli.diagnose.firewall.ruleset import FAMILIES, PLAIN, Ruleset
from wg_exporter.linux.errors import DeniedError, SourceError
from wg_exporter.linux.netlink import InterruptedDumpError, Netlink, NetlinkError, attribute, open_socket
from wg_exporter.model import Failure

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterator

    from wg_exporter.cli.diagnose.firewall.ruleset import Chain, Element, Rule, Set

NETLINK_NETFILTER = 12
_SUBSYSTEM = 10 << 8  # NFNL_SUBSYS_NFTABLES
_GET_CHAIN, _GET_RULE, _GET_SET, _GET_ELEMENTS = 4, 7, 10, 13

MOST_RULES = 50_000
MOST_SETS = 256  # whose elements are read: those that rules look into, in the order of the rules
MOST_ELEMENTS = 20_000  # of all sets
ATTEMPTS = 3
NFT_SECONDS = 2.0
MOST_TEXT = 4 << 20  # bytes of what nft writes

# The files that list the tables of iptables-legacy in a namespace, and those tables that may drop packets. `nat` is not
# one: iptables refuses DROP there, and packets of a known connection do not pass it.
LEGACY = {"iptables-legacy": "ip_tables_names", "ip6tables-legacy": "ip6_tables_names"}
DROPPING = frozenset({"filter", "mangle", "raw", "security"})
FORWARDING = ("ipv4/ip_forward", "ipv6/conf/all/forwarding")
_HANDLE = re.compile(r"^\s*(.*?)\s*# handle (\d+)$")


def read(netlink: Callable[[int], socket.socket] = open_socket) -> Ruleset:
    """All chains with their rules, and the sets that rules look into. Raises SourceError, DeniedError."""
    if not loaded():
        return Ruleset()
    asked = Netlink(NETLINK_NETFILTER, netlink)
    try:
        for _ in range(ATTEMPTS):
            try:
                return _read(asked)
            except InterruptedDumpError:
                continue
        raise SourceError("the ruleset changes all the time")
    except NetlinkError as error:
        if error.failure is Failure.DENIED:
            raise DeniedError("reading the firewall's rules needs CAP_NET_ADMIN") from None
        raise
    finally:
        asked.close()


def loaded(modules: Path = Path("/proc/modules"), system: Path = Path("/sys/module")) -> bool:
    """Whether the kernel has nf_tables now. True where that can't be told, as in a kernel without modules."""
    if (system / "nf_tables").exists():
        return True
    try:
        modular = modules.read_text()
    except OSError:
        return True
    builtin = Path("/lib/modules", _release(), "modules.builtin")
    try:
        return not modular or "/nf_tables.ko" in builtin.read_text()
    except OSError:
        return True


def legacy(net: Path = Path("/proc/thread-self/net")) -> tuple[str, ...]:
    """Rules of the old iptables that may drop packets in the thread's namespace, in words: they are no part of the
    ruleset. The kernel lists a table from when somebody asked for it, so it may have no rule.
    """
    found = []
    for program, name in LEGACY.items():
        try:
            tables = sorted(DROPPING.intersection((net / name).read_text(errors="replace").split()))
        except FileNotFoundError:
            continue  # the kernel has none
        except OSError:
            found.append(f"whether {program} has rules, which the kernel tells root alone")
            continue
        if tables:
            what = "table" if len(tables) == 1 else "tables"
            found.append(f"the rules of {program} ({what} {', '.join(tables)}), which `{program}-save` prints")
    return tuple(found)


def forwards(settings: Path = Path("/proc/sys/net")) -> bool:
    """Whether this host forwards packets of others, in the thread's namespace."""
    for name in FORWARDING:
        try:
            if (settings / name).read_text().strip() not in {"", "0"}:
                return True
        except OSError:
            continue
    return False


def texts(chain: Chain) -> dict[int, str]:
    """The rules of a chain as nft writes them, by handle; none where it is missing. In the namespace of the thread."""
    if not (PLAIN.fullmatch(chain.table) and PLAIN.fullmatch(chain.name) and chain.family in FAMILIES):
        return {}
    command = ["nft", "-a", "list", "chain", FAMILIES[chain.family], chain.table, chain.name]
    try:
        done = subprocess.run(  # noqa: S603 - names of the kernel's, never a shell
            command, capture_output=True, timeout=NFT_SECONDS, check=False, stdin=subprocess.DEVNULL
        )
    except (OSError, subprocess.TimeoutExpired, ValueError):
        return {}
    lines = done.stdout[:MOST_TEXT].decode("utf-8", "replace").splitlines()
    return {int(match[2]): match[1] for match in map(_HANDLE.match, lines) if match}


def _release() -> str:
    return Path("/proc/sys/kernel/osrelease").read_text().strip()


def _read(asked: Netlink) -> Ruleset:
    chains = [chain for message in _dump(asked, _GET_CHAIN) if (chain := decode.chain(message))]
    rules: dict[tuple[int, str, str], list[Rule]] = {}
    count = 0
    for message in _dump(asked, _GET_RULE):
        if (found := decode.rule(message)) is not None and count < MOST_RULES:
            rules.setdefault(found[0], []).append(found[1])
            count += 1
    if count == MOST_RULES:
        raise SourceError(f"the ruleset has more than {MOST_RULES:,} rules")
    whole = [chain._replace(rules=tuple(rules.get((chain.family, chain.table, chain.name), ()))) for chain in chains]
    return Ruleset(tuple(whole), dict(_sets(asked, whole)))


def _sets(asked: Netlink, chains: list[Chain]) -> Iterator[tuple[tuple[int, str, str], Set]]:
    """The sets that rules look into, with their elements."""
    wanted = dict.fromkeys(
        (chain.family, chain.table, str(step.fields.get("set")))
        for chain in chains
        for rule in chain.rules
        for step in rule.steps
        if step.kind == "lookup"
    )
    if not wanted:
        return
    left = MOST_ELEMENTS
    known = dict(filter(None, map(decode.named_set, _dump(asked, _GET_SET))))
    for place in list(wanted)[:MOST_SETS]:
        if place not in known:
            continue
        family, table, name = place
        names = attribute(1, table.encode() + b"\0") + attribute(2, name.encode() + b"\0")
        found: list[Element] = []
        for message in _dump(asked, _GET_ELEMENTS, family, names):
            if len(found) <= left:
                found += decode.elements(message)
        left -= len(found)
        yield place, known[place]._replace(elements=tuple(found), known=left >= 0)


def _dump(asked: Netlink, kind: int, family: int = 0, names: bytes = b"") -> list[bytes]:
    request = bytes([family, 0, 0, 0]) + names
    with closing(asked.dump(_SUBSYSTEM | kind, request)) as answers:
        return [bytes(data[start:end]) for data, start, end in answers]
