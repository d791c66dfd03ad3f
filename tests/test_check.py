"""What `wg-exporter check` makes of facts: each finding where it should be, and none where all is well.

`WELL` is an installation without a fault. Each case changes one thing of it, and gives the findings that this must
bring, and no others.
"""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import NamedTuple

import pytest
from rich.console import Console

from tests.hosts import NOW, device, failed, gone, host, outcome, peer
from wg_exporter import __version__
from wg_exporter.cli.check import document, screen
from wg_exporter.cli.check.checks import SUBJECTS, judge, unusable
from wg_exporter.cli.check.facts import (
    CertificateFact,
    ClockFacts,
    ConfFact,
    ConfigFacts,
    ExporterFacts,
    Facts,
    FileFact,
    HostFacts,
    KernelFacts,
    ListenFact,
    NamespaceFact,
    Owner,
    Running,
    UnitFacts,
    WebFacts,
)
from wg_exporter.cli.check.finding import Finding, NotKnown, Report, Severity, Where
from wg_exporter.cli.check.look.exporter import read_flags
from wg_exporter.cli.check.look.system import read_unit, track_files_problem
from wg_exporter.conffile import parse_wg_quick
from wg_exporter.conffile.secrets import secrets_in
from wg_exporter.config import Config, ConfigError, fingerprint, parse
from wg_exporter.config.tree import Problem
from wg_exporter.drift.kinds import Drift
from wg_exporter.drift.kinds import Kind as DriftKind
from wg_exporter.hostnames import EndpointName, LookupFailure
from wg_exporter.model import ConfFile, ConfPeer, Failure, SourceName
from wg_exporter.plan.fast import NO_ANSWER_YET, NOT_READ, TOO_MANY
from wg_exporter.plan.fast import NO_ENDPOINT as FAST_NO_ENDPOINT
from wg_exporter.plan.planner import NO_ENDPOINT, Aim
from wg_exporter.probed import FastFound
from wg_exporter.status.rows import Teller

DAY = 86400.0
ROOT = Path(__file__).parents[1]
CONFIG = parse("expect: [{interface: wg0, state: up}]\n", "/etc/wg-exporter/config.yml")
AIM = Aim("10.8.0.2", "in_subnet", "", wanted=True)
BERLIN = peer("berlin", key="A", age=10, keepalive=25, expected=True, aim=AIM)
PHONE = peer("phone", key="B", ips=("10.8.0.3/32",), aim=Aim("", "none", "it is not expected up", wanted=False))
CAPABLE = (("net_admin", True), ("uapi", True), ("conf_read", True), ("net_raw", True))
TELLER = Teller(__version__, "hub", "/etc/wg-exporter/config.yml", NOW - 3600, fingerprint(CONFIG), True)


LOST = EndpointName("vpn.example.org:51820", failure=LookupFailure.NOT_FOUND)


def overview(*devices, **changes):
    found = host(*(devices or (device(BERLIN, PHONE),)), outcomes=[outcome()])
    return found._replace(**{"teller": TELLER, "capabilities": CAPABLE} | changes)


def conf(path="/etc/wireguard/wg0.conf", *, secret=True, mode=0o100600, uid=0, enclosed=False, row=..., **more):
    described = ConfFile(path, Path(path).stem, (ConfPeer("A" * 43 + "="),)) if row is ... else row
    return ConfFact(FileFact(path, mode, uid, enclosed, **more), secret, described)


CERTIFICATE = CertificateFact("/etc/wg-exporter/web.crt", NOW - 100 * DAY, NOW + 265 * DAY)
KEY = FileFact("/etc/wg-exporter/web.key", 0o100600, directory_mode=0o40755)
WEB = WebFacts(
    FileFact("/etc/wg-exporter/web.yml", 0o100600, directory_mode=0o40755),
    tls=True,
    certificate=CERTIFICATE,
    key=KEY,
    costs=(("prometheus", 10),),
    asks=True,
)
EXPORTER = ExporterFacts("/run/wg-exporter/http.sock", __version__, Running(4711, 0), overview=overview())
HOST = HostFacts(
    EXPORTER,
    KernelFacts(True, True),
    UnitFacts("active", "enabled", capabilities=frozenset({"cap_net_admin", "cap_net_raw"})),
    (ListenFact(":9586", everywhere=True),),
    conf=(conf(),),
)
CONFIG_FACTS = ConfigFacts(CONFIG, FileFact("/etc/wg-exporter/config.yml", 0o100644, directory_mode=0o40755))
WELL = Facts(CONFIG_FACTS, ClockFacts(NOW, NOW - DAY), WEB, HOST)
NOBODY_RUNS = EXPORTER._replace(
    version="", running=None, unasked="no exporter runs here", overview=overview(teller=None)
)


def config(facts=WELL, **changes):
    return facts._replace(config=facts.config._replace(**changes))


def web(**changes):
    return WELL._replace(web=WEB._replace(**changes))


def here(facts=WELL, **changes):
    return facts._replace(host=facts.host._replace(**changes))


def exporter(**changes):
    return here(exporter=EXPORTER._replace(**changes))


def seen(*devices, **changes):
    return exporter(overview=overview(*devices, **changes))


def files(*found):
    return here(conf=found)


def says(text):
    """A file with this in it, as it is read."""
    return conf(row=parse_wg_quick(text, "/etc/wireguard/wg0.conf"))


def peers(*networks):
    keys = ("xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=", "JRI8Xc0zKP9kXk8qP84NdUQA04h6DLfFbwJn4g+/PFs=")
    return "".join(f"[Peer]\nPublicKey = {key}\nAllowedIPs = {one}\n" for key, one in zip(keys, networks, strict=True))


BROKEN = Problem("/etc/wg-exporter/config.yml:3: probe.intervall", "is not a known key", "did you mean interval?")
NAMESPACES = parse("expect: [{interface: wg0, state: up}]\nnamespaces: [{name: blue}]\n", "x")
NAMESPACED = config(config=NAMESPACES)._replace(
    host=HOST._replace(
        exporter=EXPORTER._replace(overview=overview(teller=TELLER._replace(fingerprint=fingerprint(NAMESPACES)))),
        namespaces=(NamespaceFact("blue", "/run/netns/blue", there=True),),
        unit=UnitFacts("active", "enabled", capabilities=frozenset({"cap_net_admin", "cap_sys_admin"})),
    )
)
COUNTS = parse("expect: [{interface: wg0, state: up}]\naccounting: {enabled: true}\n", "x")


def counting(*, unit="cap_bpf", **more):
    """An exporter that counts packets, with this right in its unit."""
    told = overview(**{"teller": TELLER._replace(fingerprint=fingerprint(COUNTS))} | more)
    unit = UnitFacts("active", "enabled", capabilities=frozenset({"cap_net_admin", unit}))
    return config(here(exporter=EXPORTER._replace(overview=told), unit=unit), config=COUNTS)


FAST = parse(
    "expect: [{interface: wg0, state: up}]\ntrack_files: /var/lib/wg-exporter/track\n"
    f"peers: [{{public_key: {'B' * 42}A=, fast: {{}}}}]\n",
    "x",
)
TRACKED = TELLER._replace(fingerprint=fingerprint(FAST), track_files="/var/lib/wg-exporter/track")
STRICT = UnitFacts("active", "enabled", writable=("/var/lib/wg-exporter", "/run/wg-exporter"))


def failing_over(*devices, facts=FAST, unit=STRICT, problem="", **changes):
    """An exporter that sends fast echoes, and tells them by files."""
    told = overview(*devices, **{"teller": TRACKED} | changes)
    found = here(exporter=EXPORTER._replace(overview=told), unit=unit, track_files_problem=problem)
    return config(found, config=facts)


def echoed(fast, *more):
    """A device whose first peer is so by fast echoes."""
    return device(BERLIN._replace(fast=fast), PHONE, *more)


def tracking(directory):
    """The same configuration with another directory."""
    return Config(peers=FAST.peers, expect=FAST.expect, track_files=directory)


NOBODYS = Config(expect=FAST.expect, track_files="/var/lib/wg-exporter/track")


NO_TARGET = "it has no single address among its allowed IPs; give it a `target`"
BLIND = Aim("", "none", "no endpoint yet: WireGuard does not know where to send to", wanted=True)
QUIET = Aim("", "none", "the configuration turns probing off for it", wanted=False)


EXPECTED = parse("expect: [{interface: wg0, state: up}]\ninterfaces: {expect: [wg9]}\n", "x")


def expecting(found):
    """An exporter that waits for wg9, and sees this."""
    told = found._replace(teller=TELLER._replace(fingerprint=fingerprint(EXPECTED)))
    return config(exporter(overview=told), config=EXPECTED)


class Case(NamedTuple):
    """What it is, the facts, and the ids that must be found."""

    name: str
    facts: Facts
    found: tuple[str, ...] = ()


CASES = [
    # The configuration
    Case("a mistake in the configuration", config(config=None, problems=(BROKEN,)), ("config-unusable",)),
    Case("everybody may write to the file", config(file=FileFact("/c.yml", 0o100646)), ("config-writable",)),
    Case("everybody may replace it", config(file=FileFact("/d/c.yml", directory_mode=0o40777)), ("config-writable",)),
    Case("it is in a sticky directory", config(file=FileFact("/tmp/c.yml", directory_mode=0o41777))),
    Case("its group may write to it", config(file=FileFact("/c.yml", 0o100664))),
    Case("a directory above keeps others out", config(file=FileFact("/root/c.yml", 0o100666, enclosed=True))),
    Case("it is somebody's", config(file=FileFact("/c.yml", uid=1000)), ("config-owner",)),
    Case("it is of who checks", config(WELL._replace(uid=1000), file=FileFact("/c.yml", uid=1000))),
    Case(
        "it is of who runs the exporter",
        config(exporter(running=Running(1, 1000)), file=FileFact("/c.yml", uid=1000)),
    ),
    Case("an entry matches nothing", seen(unmatched_entries=("expect[0] in the configuration: no",)),
         ("config-unmatched",)),
    # The web configuration
    Case("a mistake in the web configuration", web(problems=(BROKEN,)), ("web-config-unusable",)),
    Case("a certificate of another key", web(tls_problem="not a certificate and its key"), ("tls-unusable",)),
    Case("a certificate that has ended", web(certificate=CERTIFICATE._replace(not_after=NOW - 1)), ("tls-expired",)),
    Case("a certificate of tomorrow", web(certificate=CERTIFICATE._replace(not_before=NOW + 1)), ("tls-expired",)),
    Case("a certificate for 13 days more", web(certificate=CERTIFICATE._replace(not_after=NOW + 13 * DAY)),
         ("tls-expires",)),
    Case("a certificate for 15 days more", web(certificate=CERTIFICATE._replace(not_after=NOW + 15 * DAY))),
    Case("a certificate for a week, with two days left", web(certificate=CertificateFact("c", NOW - 5 * DAY,
                                                                                         NOW + 2 * DAY))),
    Case("a certificate for a week, with one day left", web(certificate=CertificateFact("c", NOW - 6 * DAY,
                                                                                        NOW + DAY)), ("tls-expires",)),
    Case("everybody reads the key", web(key=KEY._replace(mode=0o100644)), ("tls-key-readable",)),
    Case("a group reads the key", web(key=KEY._replace(mode=0o100640))),
    Case("a key behind a closed directory", web(key=KEY._replace(mode=0o100644, enclosed=True))),
    Case("everybody reads the hashes", web(file=WEB.file._replace(mode=0o100644)), ("web-config-readable",)),
    Case("everybody reads a file without hashes",
         web(file=WEB.file._replace(mode=0o100644), costs=(), asks=True)),
    Case("a hash of cost 9", web(costs=(("anna", 9),)), ("password-weak",)),
    Case("a hash of cost 15", web(costs=(("anna", 15),)), ("password-slow",)),
    Case("a hash of cost 14", web(costs=(("anna", 14),))),
    Case("all addresses, and nothing asked", WELL._replace(web=None), ("open-to-all",)),
    Case("all addresses, and no password", web(costs=(), asks=False), ("open-to-all",)),
    Case("all addresses, and no TLS", web(tls=False, certificate=None, key=None), ("open-to-all",)),
    Case("one address, and nothing asked", here(WELL._replace(web=None), listen=(ListenFact("10.0.0.1:9586"),))),
    # Files of WireGuard
    Case("everybody reads a private key", files(conf(mode=0o100644)), ("wireguard-readable",)),
    Case("everybody reads a file without a key", files(conf(mode=0o100644, secret=False))),
    Case("systemd-network reads a private key", files(conf(mode=0o100640))),
    Case("a key that a directory hides", files(conf(mode=0o100644, enclosed=True)), ("wireguard-mode",)),
    Case("everybody writes to a file", files(conf(mode=0o100602)), ("wireguard-writable",)),
    Case("everybody replaces a file", files(conf(directory_mode=0o40777)), ("wireguard-writable",)),
    Case("everybody writes to what is not WireGuard's",
         files(conf("/etc/systemd/network/br.netdev", mode=0o100646, secret=False,
                    row=ConfFile("/etc/systemd/network/br.netdev", "")))),
    Case("a file of somebody's", files(conf(uid=1000)), ("wireguard-owner",)),
    Case("a section that is not known", files(says("[Per]\nPublicKey = x\n")), ("wireguard-syntax",)),
    Case("two files for one interface",
         files(conf(), conf("/etc/systemd/network/50-wg0.netdev", row=ConfFile("/etc/x.netdev", "wg0"))),
         ("interface-twice",)),
    Case("one allowed IP for two peers", files(says(peers("10.0.0.2/32", "10.0.0.2"))), ("allowed-ips-twice",)),
    Case("allowed IPs within each other", files(says(peers("10.0.0.0/8", "10.0.0.2/32")))),
    Case("one allowed IP twice in one peer", files(says(peers("10.0.0.2/32, 10.0.0.2/32", "10.0.0.3/32")))),
    Case("a file that wg-quick saves itself",
         files(says("[Interface]\nSaveConfig = true\n" + peers("10.0.0.2/32", "10.0.0.2/32")))),
    Case("a file without its interface", files(conf(), conf("/etc/wireguard/wg7.conf")), ("interface-absent",)),
    Case("a file of an interface that the configuration leaves out",
         here(seen(hidden=("wg7",)), conf=(conf("/etc/wireguard/wg7.conf"),))),
    Case("two peers of one name", seen(device(BERLIN, peer("berlin", key="B", aim=AIM))), ("name-twice",)),
    Case("one name on two interfaces",
         seen(device(BERLIN), device(BERLIN, name="wg1")._replace(
             device=device(BERLIN, name="wg1").device._replace(public_key="Y" * 43 + "=")))),
    Case("one key on two interfaces", seen(device(BERLIN), device(PHONE, name="wg1")), ("private-key-twice",)),
    Case("an interface that differs from its file",
         seen(device(BERLIN)._replace(drift=Drift("/x.conf", ((DriftKind.MTU, 1), (DriftKind.ADDRESS, 0))))),
         ("interface-drift",)),
    Case("a peer that has moved",
         seen(device(BERLIN)._replace(drift=Drift("/x.conf", ((DriftKind.ENDPOINT, 1), (DriftKind.MTU, 0)))))),
    # The host
    Case("a source that can't be read", seen(outcomes=(outcome("busy; try again", SourceName.LINKS),)),
         ("source-unread",)),
    Case("no right to probe", seen(capabilities=(("net_raw", False),)), ("no-net-raw",)),
    Case("no right to probe, and nobody to be probed", seen(device(PHONE, peer("x", expected=True)),
                                                           capabilities=(("net_raw", False),))),
    Case("no module yet", here(exporter(overview=overview()._replace(devices=())), kernel=KernelFacts(False, True),
                               conf=()), ("no-devices", "module-not-loaded")),
    Case("no module at all", here(exporter(overview=overview()._replace(devices=())),
                                  kernel=KernelFacts(False, False), conf=()), ("no-devices", "no-kernel-support")),
    Case("userspace devices, and no module", here(kernel=KernelFacts(False, False))),
    Case("no device", here(exporter(overview=overview()._replace(devices=())), conf=()), ("no-devices",)),
    Case("an interface is gone", seen(device(BERLIN), gone(BERLIN)), ("interface-gone",)),
    Case("an interface that is expected never came", expecting(overview(device(BERLIN))), ("interface-gone",)),
    Case("an interface that is expected is the only one", expecting(overview()._replace(devices=())),
         ("interface-gone", "interface-absent")),
    Case("an interface that is expected can't be seen", expecting(overview(
        device(BERLIN), outcomes=(outcome("busy", SourceName.LINKS),))), ("source-unread",)),
    Case("a device can't be read", seen(device(BERLIN), failed("its daemon did not answer")), ("device-unread",)),
    Case("a device was read half", seen(device(BERLIN, fresh=False)), ("device-unread",)),
    Case("a socket without a daemon", seen(notes=("/var/run/wireguard/wg9.sock: a socket whose daemon is gone; x",)),
         ("socket-stale",)),
    Case("another note", seen(notes=("links: slow",))),
    Case("two daemons of one name", seen(doubles=("wg0: several daemons have this name",)), ("device-twice",)),
    Case("a namespace", NAMESPACED),
    Case("a namespace that does not exist",
         here(NAMESPACED, namespaces=(NamespaceFact("blue", "/run/netns/blue", there=False),)), ("namespace-absent",)),
    Case("a namespace that does not exist is one finding, not two",
         here(NAMESPACED, namespaces=(NamespaceFact("blue", "/run/netns/blue", there=False),),
              exporter=NAMESPACED.host.exporter._replace(overview=NAMESPACED.host.exporter.overview._replace(
                  outcomes=(outcome("it does not exist")._replace(netns="blue"),)))), ("namespace-absent",)),
    Case("a unit that can't enter it",
         here(NAMESPACED, unit=HOST.unit), ("unit-no-namespaces",)),
    Case("packets are counted", counting()),
    Case("packets are counted on an older kernel", counting(unit="cap_sys_admin")),
    Case("a unit that can't count them", counting(unit="cap_net_raw"), ("unit-no-accounting",)),
    Case("they can't be counted on this host",
         counting(outcomes=(outcome("it lacks CAP_BPF; grant it", SourceName.ACCOUNTING),)), ("source-unread",)),
    Case("and files that describe what is there are still held against it",
         here(counting(outcomes=(outcome("no", SourceName.ACCOUNTING),)),
              conf=(conf(row=ConfFile("/x/wg9.conf", "wg9", (ConfPeer("x"),))),)),
         ("source-unread", "interface-absent")),
    Case("they can't be counted on one device",
         counting(notes=("wg0: packets are not counted: a filter is first; move it",)), ("packets-not-counted",)),
    Case("a kernel that can't count them, and no exporter to say so",
         config(here(exporter=NOBODY_RUNS, listen=(), unit=None, kernel=KernelFacts(True, True, "5.4.0-187-generic")),
                config=COUNTS), ("exporter-not-asked", "packets-not-counted")),
    Case("a kernel that can count them, and no exporter",
         config(here(exporter=NOBODY_RUNS, listen=(), unit=None, kernel=KernelFacts(True, True, "5.7.0")),
                config=COUNTS),
         ("exporter-not-asked",)),
    # Failover
    Case("fast echoes that are answered", failing_over(echoed(FastFound("10.8.0.2", True)))),
    Case("fast echoes that are not answered", failing_over(echoed(FastFound("10.8.0.2", False)))),
    Case("fast echoes of which nothing is known yet", failing_over(echoed(FastFound("10.8.0.2", None, NO_ANSWER_YET)))),
    Case("fast echoes to a device that was not read yet", failing_over(echoed(FastFound("", None, NOT_READ)))),
    Case("fast echoes without a target", failing_over(echoed(FastFound("", None, NO_TARGET))), ("fast-not-sent",)),
    Case("fast echoes to more peers than there may be", failing_over(echoed(FastFound("", None, TOO_MANY))),
         ("fast-not-sent",)),
    Case("fast echoes to a peer without an endpoint", failing_over(echoed(FastFound("", False, FAST_NO_ENDPOINT))),
         ("fast-not-sent",)),
    Case("fast echoes without a target, and no exporter yet",
         here(failing_over(), exporter=NOBODY_RUNS._replace(overview=overview(
             echoed(FastFound("", None, NO_TARGET)), teller=None)), listen=()),
         ("fast-not-sent", "exporter-not-asked")),
    Case("fast echoes to two peers that have no target",
         failing_over(echoed(FastFound("", None, NO_TARGET),
                             peer("lyon", key="C", aim=QUIET)._replace(fast=FastFound("", None, NO_TARGET)))),
         ("fast-not-sent",)),
    Case("no right to send fast echoes, and nobody to be probed",
         failing_over(device(BERLIN._replace(aim=QUIET)), capabilities=(("net_raw", False),)),
         ("no-net-raw", "probing-off")),
    Case("track files of nobody", failing_over(
        facts=NOBODYS, teller=TRACKED._replace(fingerprint=fingerprint(NOBODYS))), ("track-files-unused",)),
    Case("track files that go with the service", failing_over(
        facts=tracking("/run/wg-exporter/track"), teller=TRACKED._replace(
            fingerprint=fingerprint(tracking("/run/wg-exporter/track")), track_files="/run/wg-exporter/track")),
        ("track-files-removed",)),
    Case("track files that can't be written", failing_over(teller=TRACKED._replace(
        track_files_problem="No space left on device")), ("track-files-unwritable",)),
    Case("track files where the unit may not write", failing_over(
        facts=tracking("/etc/keepalived/track"), teller=TRACKED._replace(
            fingerprint=fingerprint(tracking("/etc/keepalived/track")), track_files="/etc/keepalived/track",
            track_files_problem="/etc/keepalived/track: Read-only file system")), ("unit-no-track-files",)),
    Case("track files where the unit may write by a name that only begins alike", failing_over(
        unit=UnitFacts("active", "enabled", writable=("/var/lib/wg",))), ("unit-no-track-files",)),
    Case("track files where a drop-in of the unit allows them", failing_over(
        unit=UnitFacts("active", "enabled", writable=("/var/lib/wg-exporter/track/",)))),
    Case("track files and a unit that may write anywhere", failing_over(unit=UnitFacts("active", "enabled"))),
    Case("track files that were moved by a reload", failing_over(teller=TRACKED._replace(track_files="/srv/track")),
         ("track-files-elsewhere",)),
    Case("track files that were taken out by a reload", seen(teller=TELLER._replace(track_files="/srv/track")),
         ("track-files-elsewhere",)),
    Case("track files that nobody can write, and no exporter yet",
         here(failing_over(problem="there is no directory /srv; make it"), exporter=NOBODY_RUNS, listen=()),
         ("track-files-unwritable", "exporter-not-asked")),
    Case("track files of an older exporter", here(failing_over(), exporter=EXPORTER._replace(
        version="0.0.1", overview=overview(teller=TELLER))), ("exporter-version",)),
    # The exporter
    Case("events that can't be written down", seen(teller=TELLER._replace(
        storage_problem="there is no directory /var/lib/wg-exporter; make it")), ("storage-unwritable",)),
    Case("no exporter", here(exporter=NOBODY_RUNS, listen=()), ("exporter-not-asked",)),
    Case("an exporter that is not ready", exporter(running=Running(1, 0, "the reader died; wait")),
         ("exporter-not-ready",)),
    Case("an exporter of another version", exporter(version="0.0.1"), ("exporter-version",)),
    Case("an exporter with another file", exporter(other_config="/etc/other.yml"), ("exporter-other-config",)),
    Case("a file that was not read again", seen(teller=TELLER._replace(fingerprint="0")), ("config-not-reloaded",)),
    Case("a reload that failed", seen(teller=TELLER._replace(reload_successful=False)), ("config-reload-failed",)),
    Case("a service that failed", here(unit=UnitFacts("failed", "enabled", "exit-code", 2)), ("unit-failed",)),
    Case("a service that is not enabled", here(unit=UnitFacts("active", "disabled")), ("unit-disabled",)),
    Case("a service that another starts", here(unit=UnitFacts("active", "static"))),
    Case("no systemd", here(unit=None)),
    Case("the port is another's",
         here(exporter=NOBODY_RUNS, listen=(ListenFact("10.0.0.1:9586", taken=Owner(7, "nginx")),)),
         ("port-taken", "exporter-not-asked")),
    Case("the port is that of an exporter without a socket",
         here(exporter=NOBODY_RUNS, listen=(ListenFact("10.0.0.1:9586", taken=Owner(7, "wg-exporter")),)),
         ("exporter-not-asked",)),
    Case("the port is somebody's whom only root sees, as the exporter that may not be asked",
         here(exporter=NOBODY_RUNS._replace(denied=True), listen=(ListenFact(":9586", taken=Owner(0, "")),))),
    Case("the exporter has its port", here(listen=(ListenFact("10.0.0.1:9586", taken=Owner(7, "wg-exporter")),))),
    Case("an exporter that listens in another network namespace",
         here(listen=(ListenFact("10.9.9.9:9586", problem="this host has no such address", taken=Owner(7, "nginx")),))),
    Case("an address that this host has not",
         here(exporter=NOBODY_RUNS, listen=(ListenFact("10.9.9.9:9586", problem="this host has no such address"),)),
         ("address-absent", "exporter-not-asked")),
    Case("no users", here(missing_users=("wg-exporter",)), ("users-absent",)),
    Case("no users, and one process", here(exporter(running=Running(1, 0, parted=False)), missing_users=("x",))),
    Case("no users, and not root", here(exporter(running=Running(1, 1000)), missing_users=("x",))),
    Case("no directory for the socket", here(exporter=NOBODY_RUNS, listen=(), socket_directory=False),
         ("exporter-not-asked", "socket-directory-absent")),
    # The clock
    Case("a clock before the installation", WELL._replace(clock=ClockFacts(NOW, NOW + DAY)), ("clock-wrong",)),
    Case("a package of a minute ahead", WELL._replace(clock=ClockFacts(NOW, NOW + 60))),
    Case("a handshake in a minute", seen(device(peer("berlin", age=-60, keepalive=25, expected=True, aim=AIM))),
         ("handshake-in-future",)),
    Case("a handshake during the look", seen(device(peer("berlin", age=-3, keepalive=25, expected=True, aim=AIM)))),
    Case("a clock that nobody sets", WELL._replace(clock=ClockFacts(NOW, 0.0, synchronised=False)),
         ("clock-unsynchronised",)),
    # Paging
    Case("nobody is expected up", seen(device(PHONE)), ("nothing-can-page",)),
    Case("nobody is there", seen(device()), ("nothing-can-page",)),
    Case("an interface is expected",
         config(seen(device(PHONE), teller=TELLER._replace(
             fingerprint=fingerprint(parse("interfaces: {expect: [wg0]}", "x")))),
             config=parse("interfaces: {expect: [wg0]}", "x"))),
    Case("a peer that can't be probed", seen(device(BERLIN._replace(aim=BLIND))), ("peer-not-probed",)),
    Case("a host name that does not resolve", seen(device(BERLIN._replace(host_name=LOST))), ("endpoint-unresolved",)),
    Case("a host name that leads elsewhere", seen(device(BERLIN._replace(host_name=LOST._replace(
        failure=None, addresses=("192.0.2.9:51820",), mismatch=True))))),
    Case("probing is off", seen(device(BERLIN._replace(aim=QUIET))), ("probing-off",)),
]  # fmt: skip


def ids(facts):
    return tuple(finding.id for finding in judge(facts).findings)


def unknown(facts):
    return {one.subject: one.why for one in judge(facts).not_known}


def test_a_sound_installation_has_no_finding_and_only_what_is_elsewhere_is_not_known():
    report = judge(WELL)
    assert report.findings == ()
    assert [one.subject for one in report.not_known] == ["Prometheus and its rules"]
    assert report.done == sum(map(len, SUBJECTS.values())) - 1


@pytest.mark.parametrize("case", [pytest.param(case, id=case.name.replace(" ", "-")) for case in CASES])
def test_a_fact_brings_its_finding_and_no_other(case):
    assert sorted(ids(case.facts)) == sorted(case.found)


KINDS = [kind for checks in SUBJECTS.values() for check in checks for kind in check.kinds]


def test_every_kind_of_finding_has_a_case_and_an_id_of_its_own():
    assert len({kind.id for kind in KINDS}) == len(KINDS)
    assert {kind.id for kind in KINDS} == {found for case in CASES for found in case.found}


def test_every_finding_says_what_is_wrong_and_what_to_do_in_one_line_each():
    for case in CASES:
        for finding in judge(case.facts).findings:
            assert finding.what
            assert finding.fix
            assert "\n" not in finding.what + finding.fix


def test_a_check_finds_only_what_it_is_documented_to_find():
    for case in CASES:
        for checks in SUBJECTS.values():
            for check in checks:
                known = {kind.id for kind in check.kinds}
                assert {one.id for one in check.judge(case.facts) if isinstance(one, Finding)} <= known


def test_the_worst_is_said_first():
    facts = here(exporter(version="0.0.1"), missing_users=("wg-exporter",), conf=(conf(mode=0o100644),))
    assert ids(facts) == ("wireguard-readable", "exporter-version", "users-absent")


# --- what is not known is said, and is no finding -------------------------------------------------------------------


def test_what_we_may_not_read_is_not_known_and_no_fault_of_the_exporter():
    denied = (outcome("needs CAP_NET_ADMIN; run as root", failure=Failure.DENIED),)
    facts = here(exporter=NOBODY_RUNS._replace(overview=overview(teller=None, outcomes=denied)), listen=())
    assert ids(facts) == ("exporter-not-asked",)
    assert unknown(facts)["source kernel"] == "needs CAP_NET_ADMIN; run as root"


def test_no_device_is_called_missing_while_a_source_can_not_be_read():
    denied = (outcome("needs CAP_NET_ADMIN; run as root", failure=Failure.DENIED),)
    own = overview(teller=None, outcomes=denied)._replace(devices=())
    facts = here(exporter=NOBODY_RUNS._replace(overview=own), listen=())
    assert ids(facts) == ("exporter-not-asked",)
    assert {"devices", "interfaces that files describe", "whether anything can page"} <= unknown(facts).keys()


def test_who_may_not_ask_does_not_know_whether_an_exporter_runs():
    facts = here(exporter=NOBODY_RUNS._replace(denied=True, unasked="only root may ask"), listen=())
    assert ids(facts) == ()
    assert unknown(facts)["the exporter that runs"] == "only root may ask; run this check as root"


def test_without_names_nobody_says_that_nothing_can_page():
    unread = (outcome(), outcome("permission denied", SourceName.CONF, Failure.DENIED))
    facts = here(exporter=NOBODY_RUNS._replace(overview=overview(device(PHONE), teller=None, outcomes=unread)))
    assert "nothing-can-page" not in ids(facts)
    assert "whether anything can page" in unknown(facts)


def test_addresses_that_nobody_named_are_not_judged():
    facts = here(WELL._replace(web=None), listen=(ListenFact(":9586", everywhere=True, guessed=True),))
    assert ids(facts) == ()
    assert "--web.listen-address" in unknown(facts)["who reaches the port"]


def test_a_peer_without_an_endpoint_is_not_told_to_be_given_a_target():
    [found] = judge(seen(device(BERLIN._replace(aim=Aim("10.0.0.2", "only_host", NO_ENDPOINT, wanted=True))))).findings
    assert found.fix == "set its `Endpoint` here, or have it call: it is probed as soon as it did"


def test_who_has_the_port_is_not_known_to_whom_the_exporter_is_closed():
    facts = here(exporter=NOBODY_RUNS._replace(denied=True), listen=(ListenFact(":9586", taken=Owner(0, "")),))
    assert unknown(facts)["who listens at :9586"] == "run this check as root to see if it is the exporter"


def test_the_flags_of_an_exporter_elsewhere_are_not_known():
    facts = here(WELL._replace(web=None), flags_unseen="it is in a container")
    assert ids(facts) == ()
    assert unknown(facts)["addresses and web configuration"] == "it is in a container"


def test_an_older_exporter_does_not_say_which_configuration_it_goes_by():
    facts = seen(teller=TELLER._replace(fingerprint="", reload_successful=None))
    assert ids(facts) == ()
    assert "whether the configuration is in use" in unknown(facts)


@pytest.mark.parametrize(
    ("facts", "subject"),
    [
        (here(kernel=KernelFacts(None, None)), "WireGuard in the kernel"),
        (WELL._replace(clock=ClockFacts(NOW, 0.0, None)), "whether the clock is kept right"),
        (here(conf=(), conf_unseen="permission denied"), "files of WireGuard"),
        (here(namespaces=(NamespaceFact("blue", "/proc/1/ns/net", None),)), "namespace blue"),
        (web(tls_unseen="k.pem: permission denied"), "certificate and key"),
        (config(unseen="it is in a container"), "configuration"),
        (seen(capabilities=()), "the right to probe"),
        (exporter(overview=None), "devices"),
        (failing_over(teller=None), "fast echoes"),
        (failing_over(teller=None), "track files"),
        (failing_over(echoed(FastFound("10.8.0.2", None, NO_ANSWER_YET))), "fast echoes"),
        (failing_over(echoed(FastFound("", None, NOT_READ))), "fast echoes"),
        (here(failing_over(), exporter=EXPORTER._replace(version="0.0.1")), "track files"),
        (counting(teller=None), "packets of peers"),
        (exporter(overview=None), "whether events survive a restart"),
    ],
    ids=["kernel", "clock", "files", "namespace", "tls", "config", "capability", "host", "fast", "track", "soon",
         "unread", "older", "packets", "storage"],
)  # fmt: skip
def test_what_could_not_be_found_out_is_said(facts, subject):
    assert subject in unknown(facts)


def test_where_a_device_has_no_peer_its_interface_is_what_can_be_expected():
    [found] = judge(seen(device())).findings
    assert found.fix == "expect the interface: interfaces: {expect: [wg0]}"


# --- files alone ----------------------------------------------------------------------------------------------------


def test_files_alone_are_judged_without_the_host():
    facts = config(file=FileFact("/c.yml", 0o100666, 1000))._replace(host=None)
    report = judge(facts)
    assert (report.findings, report.not_known) == ((), ())
    assert report.done == sum(not check.host for checks in SUBJECTS.values() for check in checks)


def test_a_configuration_that_can_not_be_used_is_told_from_all_else():
    assert unusable(judge(config(config=None, problems=(BROKEN,))))
    assert unusable(judge(web(problems=(BROKEN,))))
    assert not unusable(judge(web(tls_problem="no such file")))


def test_each_mistake_of_the_configuration_has_its_line():
    text = "probe: {intervall: 3s}\nexpect: up\n"
    with pytest.raises(ConfigError) as caught:
        parse(text, "/etc/c.yml")
    found = judge(config(config=None, problems=caught.value.problems)).findings
    assert [(one.where.file, one.where.line) for one in found] == [("/etc/c.yml", 1), ("/etc/c.yml", 2)]
    assert found[0].what.startswith("probe.intervall: is not a known key")
    assert "did you mean interval" in found[0].fix


def test_a_mistake_of_yaml_itself_has_its_line_too():
    with pytest.raises(ConfigError) as caught:
        parse("a: [1\nb: 2\n", "/etc/c.yml")
    [found] = judge(config(config=None, problems=caught.value.problems)).findings
    assert (found.where.file, found.where.line) == ("/etc/c.yml", 2)


# --- what is told ---------------------------------------------------------------------------------------------------


def bad_night():
    """Facts with findings of every severity, and something that is not known."""
    facts = here(
        exporter(version="0.0.1", overview=overview(device(PHONE), unmatched_entries=(
            "expect[0] in the configuration: no peer here matches name bern; correct it, or take it out",))),
        conf=(conf(mode=0o100644), says("[Interface]\n[Per]\nPublicKey = x\n")._replace(secret=False)),
        missing_users=("wg-exporter", "wg-exporter-probe"),
    )  # fmt: skip
    return judge(web(tls_unseen="/etc/k.pem: permission denied; run this check as root")._replace(host=facts.host))


def golden(name, text):
    import os

    path = ROOT / f"tests/data/check/{name}.txt"
    if os.environ.get("UPDATE_GOLDEN"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    assert text == path.read_text()


def drawn(report, width=100, **more):
    console = Console(file=io.StringIO(), width=width, markup=False, highlight=False, **more)
    for block in screen.blocks(report):
        console.print(block)
    return "".join(f"{line.rstrip()}\n" for line in console.file.getvalue().splitlines())


@pytest.mark.parametrize("width", [60, 100])
def test_a_bad_night_on_a_terminal_of_this_width(width):
    golden(f"night_{width}", drawn(bad_night(), width))


def test_a_bad_night_in_a_pipe():
    golden("night_pipe", "".join(f"{line}\n" for line in screen.lines(bad_night())))


def test_a_bad_night_in_json():
    golden("night_json", f"{document.to_json(bad_night())}\n")


def test_a_sound_installation_is_one_line_and_what_is_not_known():
    assert list(screen.lines(judge(WELL)))[-1] == f"nothing found: {judge(WELL).done} checks, 1 not known"


def test_a_hundred_findings_of_one_kind_do_not_hide_the_others():
    many = tuple(conf(f"/etc/wireguard/wg{n}.conf", mode=0o100644, row=None) for n in range(100))
    report = judge(here(conf=many, missing_users=("wg-exporter",)))
    lines = list(screen.lines(report))
    assert sum(line.startswith("error wireguard-readable") for line in lines) == screen.MOST
    assert "and 90 more of wireguard-readable; --json has all" in lines
    assert any(line.startswith("info users-absent") for line in lines)
    assert lines[-1].startswith("100 errors, 1 note: ")
    assert len(json.loads(document.to_json(report))["findings"]) == 101
    assert "and 90 more of wireguard-readable" in drawn(report)


def test_nothing_that_is_told_can_drive_a_terminal_or_break_a_line():
    bad = "\x1b[31m\nred\u202e"
    where = Where(bad, 1, bad, bad, bad, bad)
    report = Report((Finding("x", Severity.ERROR, where, bad, bad),), (NotKnown(bad, bad),), 1)
    for text in (*screen.lines(report), *drawn(report, 400).splitlines(), *document.to_json(report).splitlines()):
        assert text.isprintable()
    assert len(list(screen.lines(report))) == 3


# --- what is read of others -----------------------------------------------------------------------------------------


def test_the_flags_of_a_process_are_those_of_serve_and_paths_begin_where_it_runs():
    flags = read_flags(["--web.listen-address=:1", "--config.file=c.yml", "--web.config.file", "/w.yml"], "/srv")
    assert flags == ((":1",), Path("/srv/c.yml"), Path("/w.yml"), True)
    assert read_flags(["--no-privsep"], "/") == ((":9586",), None, None, False)


@pytest.mark.parametrize("words", [["--no-such-flag"], ["--help"], ["word"]], ids=["unknown", "help", "word"])
def test_what_are_no_flags_of_serve_is_not_known(words, capsys):
    assert read_flags(words, "/") is None


def test_the_unit_is_read_in_the_words_of_systemctl():
    text = "LoadState=loaded\nActiveState=failed\nUnitFileState=enabled\nResult=exit-code\nExecMainStatus=2\n"
    assert read_unit(text + "CapabilityBoundingSet=cap_net_raw cap_kill\n") == UnitFacts(
        "failed", "enabled", "exit-code", 2, frozenset({"cap_net_raw", "cap_kill"})
    )
    assert read_unit(text).capabilities is None
    strict = "ProtectSystem=strict\nReadWritePaths=-/srv/track /var/log\n"
    strict += "StateDirectory=wg-exporter:alias\nRuntimeDirectory=x\n"
    writable = read_unit(text + strict).writable
    assert {"/srv/track", "/var/log", "/var/lib/wg-exporter", "/run/x"} <= set(writable)
    assert read_unit(text + strict.replace("strict", "full")).writable is None
    assert read_unit("LoadState=not-found\nActiveState=inactive\n") is None
    assert read_unit("") is None


def test_what_speaks_against_a_directory_of_track_files_is_seen_before_an_exporter_runs(tmp_path):
    assert track_files_problem(str(tmp_path / "track")) == ""
    assert not (tmp_path / "track").exists()
    assert track_files_problem(str(tmp_path / "none" / "track")).startswith(f"there is no directory {tmp_path}/none; ")
    (tmp_path / "track").mkdir()
    assert track_files_problem(str(tmp_path / "track")) == ""
    (tmp_path / "link").symlink_to("track")
    (tmp_path / "file").touch()
    for name in ("link", "file"):
        assert "no directory; remove it" in track_files_problem(str(tmp_path / name))


@pytest.mark.parametrize(
    ("text", "inside"),
    [
        ("[Interface]\nPrivateKey = aGVsbG8=\n", True),
        ("[Interface]\n  privatekey=aGVsbG8=\r\n", True),
        ("[Peer]\nPresharedKey = aGVsbG8=\n", True),
        ("[Interface]\n# PrivateKey = aGVsbG8=\n", False),
        ("[Interface]\nPrivateKey =\n", False),
        ("[Interface]\nPrivateKey = # later\n", False),
        ("[WireGuard]\nPrivateKey=@network.wireguard.private.wg0\n", False),
        ("[Peer]\nPublicKey = aGVsbG8=\n", False),
        ("[WireGuard]\nPrivateKeyFile=/etc/k\n", False),
    ],
    ids=["private", "blanks", "preshared", "comment", "empty", "remark", "credential", "public", "file"],
)
def test_a_file_holds_a_secret_only_where_a_key_stands(text, inside):
    assert secrets_in(text).inside is inside


def test_files_of_secret_keys_are_named_and_those_of_public_keys_are_not():
    text = "[WireGuard]\nPrivateKeyFile=/etc/a \n[WireGuardPeer]\nPresharedKeyFile = /etc/b\nPublicKeyFile=/etc/c\n"
    assert secrets_in(text) == (False, ("/etc/a", "/etc/b"))


def test_two_files_of_one_meaning_have_one_fingerprint():
    one = parse("expect: [{interface: wg0, state: up}]\n", "a")
    assert fingerprint(one) == fingerprint(parse("# a remark\nexpect:\n  - state: up\n    interface: wg0\n", "b"))
    assert fingerprint(one) != fingerprint(Config())
