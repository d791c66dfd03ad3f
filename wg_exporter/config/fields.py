"""The kinds of values in the configuration: what each may be, checked and brought into its one canonical form.

Every kind is an annotated type: `title` is what the reference calls it, `check` is the function that takes the value
from the file and returns the one to use, or raises `FieldError` with what is wrong and what to write instead.
No check but that of a public key lets a WireGuard key through: a private key pasted into the wrong place must not
become a label or end in a `repr`.
"""

from __future__ import annotations

import base64
import binascii
import fnmatch
import ipaddress
import re
from typing import TYPE_CHECKING, Annotated, Final

from msgspec import Meta

from wg_exporter.config.text import CONTROL, DIRECTION
from wg_exporter.config.tree import FieldError

if TYPE_CHECKING:
    from collections.abc import Callable

_KEY: Final = re.compile("[A-Za-z0-9+/]{43}=")
_KEY_RUN: Final = re.compile("[A-Za-z0-9+/]{43}")
_DURATION: Final = re.compile("".join(f"(?:([0-9]{{1,9}}){unit})?" for unit in ("y", "w", "d", "h", "m", "s", "ms")))
_UNITS: Final = (31_536_000_000, 604_800_000, 86_400_000, 3_600_000, 60_000, 1000, 1)  # milliseconds, in that order
_CIDR: Final = re.compile("[0-9A-Fa-f:.]+(/[0-9]{1,3})?")  # `ipaddress` takes netmasks and zones as well
PID_MAX: Final = 4 * 1024 * 1024  # PID_MAX_LIMIT of include/linux/threads.h


def _plain(text: str, longest: int = 255) -> str:
    """Text for one line: not empty, no control characters, no key. `longest` is in characters."""
    if not text.strip():
        raise FieldError("is empty", "give it a value, or remove the key")
    if mark := DIRECTION.search(text):
        what = f"holds U+{ord(mark[0]):04X}, a mark of the direction of writing, as character {mark.start() + 1}"
        raise FieldError(what, "remove it: it can't be seen, and text looks like another with it")
    if CONTROL.search(text):
        raise FieldError("holds a line break or control character", "remove it")
    if text != text.strip():
        raise FieldError("begins or ends with a space", "remove the space")
    if len(text) > longest:
        raise FieldError(f"is longer than {longest} characters", "shorten it")
    if _KEY.search(text):
        raise FieldError("holds a WireGuard key", "write keys under public_key only, and private keys nowhere")
    return text


def _public_key(text: str) -> str:
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raw = b""
    if len(raw) != 32 or base64.b64encode(raw).decode() != text:
        length = "" if len(text) == 44 else f", but {len(text)} characters"
        raise FieldError(
            "is not a WireGuard public key" + length, "copy it from `wg show`: 44 characters, the last is ="
        )
    return text


def _interface(text: str) -> str:
    """As the kernel takes it (dev_valid_name in net/core/dev.c)."""
    _plain(text)
    if set(text) & set("*?["):
        raise FieldError("is a pattern", "give the exact name of one interface")
    if "/" in text:
        raise FieldError("is not an interface name", "leave out the part up to the /")
    if len(text.encode()) > 15 or text in {".", ".."} or re.search(r"[:\s]", text):
        raise FieldError("can't be an interface name", "names have up to 15 bytes, no spaces and no :")
    return text


def _expected_interface(text: str) -> str:
    netns, slash, name = _plain(text).rpartition("/")
    if slash:
        _namespace(netns)
    _interface(name)
    return text


def _namespace(text: str) -> str:
    if "/" in _plain(text) or text in {".", ".."}:
        raise FieldError("is not a name", "use a name without /; for a file, use the key path")
    return text


def _pattern(text: str) -> str:
    _plain(text)
    try:
        re.compile(fnmatch.translate(text))
    except re.error:
        raise FieldError("is not a pattern", "* stands for any characters, ? for one, [abc] for one of these") from None
    return text


def _interface_pattern(text: str) -> str:
    if "/" in _pattern(text):
        raise FieldError("can't match an interface", "leave out the part up to the /; the namespace is no condition")
    return text


def _path(text: str) -> str:
    _plain(text, longest=4095)  # PATH_MAX of include/uapi/linux/limits.h, without the final NUL
    if not text.startswith("/"):
        raise FieldError("is a relative path", "write the path from / on")
    return text


def _own_directory(text: str) -> str:
    """As it is written without what leads nowhere: `/a/./b/` is `/a/b`."""
    parts = [part for part in _path(text).split("/") if part not in {"", "."}]
    if ".." in parts:
        raise FieldError("has .. in it", "write the path without")
    if len(parts) < 2:
        raise FieldError("is no directory of its own", "name one below another, such as /var/lib/wg-exporter/track")
    return "/" + "/".join(parts)


def _peer_name(text: str) -> str:
    if _KEY_RUN.search(_plain(text, longest=128)):
        raise FieldError("looks like a key", "a name becomes a label that everyone can read: choose another")
    return text


def _address(text: str) -> str:
    _plain(text)
    address, slash, _ = text.partition("/")
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        raise FieldError("is not an IP address", "write the address of the peer inside the tunnel: 10.0.0.2") from None
    if getattr(found, "scope_id", None) is not None:
        raise FieldError("has a zone", "leave out the part from % on: the interface is known")
    if slash:
        raise FieldError(
            "is a network, not an address", "write one address of the peer, without the / and what follows"
        )
    if found.is_unspecified or found.is_multicast:
        raise FieldError("is not the address of one peer", "write the address of the peer inside the tunnel")
    return str(found)


def _network(text: str) -> str:
    _plain(text)
    try:
        found = ipaddress.ip_network(text, strict=False) if _CIDR.fullmatch(text) else None
    except ValueError:
        found = None
    if found is None:
        raise FieldError("is not a network", "write it like 10.1.0.0/16 or fd00::/64")
    address = text.partition("/")[0]
    if ipaddress.ip_address(address) != found.network_address:
        one = ipaddress.ip_network(address)
        raise FieldError("has host bits set", f"write {found}, or {one} for this address alone")
    return str(found)


def _metric_pattern(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_:*?\[\]!-]+", _pattern(text)):
        raise FieldError("can't match a metric name", "names have letters, digits and _ only; labels can't be given")
    return text


def seconds(text: str) -> float | None:
    """A duration as Prometheus writes it, in seconds: whole numbers with units, the largest first. None if it is none.

    Source: https://prometheus.io/docs/prometheus/latest/configuration/configuration/, `<duration>`.
    """
    found = _DURATION.fullmatch(text)
    if found is None or not text:
        return None
    return sum(int(count or 0) * unit for count, unit in zip(found.groups(), _UNITS, strict=True)) / 1000


def duration(value: float) -> str:
    """Seconds as a person would write them in the file: `1m30s`."""
    left = round(value * 1000)
    parts = []
    for length, unit in ((86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1000, "s"), (1, "ms")):
        if left >= length:
            parts.append(f"{left // length}{unit}")
            left %= length
    return "".join(parts) or "0s"


def _span(low: str, high: str) -> Meta:
    """A duration from `low` to `high`."""
    least, most = seconds(low), seconds(high)

    def meant(bare: str) -> str:
        """The number with the units that it may have meant: the small ones, or else the first that may stand here."""
        fits = [unit for unit in ("ms", "s", "m", "h") if (least or 0) <= (seconds(bare + unit) or 0) <= (most or 0)]
        likely = [unit for unit in fits if unit in {"ms", "s"}] or fits[:1] or ["s"]
        return " or ".join(bare + unit for unit in likely)

    def check(text: str) -> float:
        found = seconds(text)
        if found is None:
            bare = re.fullmatch("[0-9]{1,9}", text) and text.strip("0")
            raise FieldError(
                "is not a duration", f"write {meant(text)}" if bare else "write it like 5s, 500ms or 1m30s"
            )
        if least is not None and found < least:
            raise FieldError(f"must be at least {low}", f"write {low} or more")
        if most is not None and found > most:
            raise FieldError(f"must be at most {high}", f"write {high} or less")
        return found

    return Meta(title=f"duration, {low} to {high}", extra={"check": check, "written": "a duration"})


def _bucket(bound: float) -> float:
    if not 0.00001 <= bound <= 60:
        raise FieldError("is not between 0.00001 and 60", "bounds are in seconds: 0.001 is a millisecond")
    return bound


def _between(low: float, high: float, meaning: str) -> Callable[[float], float]:
    def check(number: float) -> float:
        if not low <= number <= high:
            raise FieldError(f"is not between {low:g} and {high:g}", meaning)
        return number

    return check


def _kind(title: str, check: Callable[[str], str]) -> Meta:
    return Meta(title=title, extra={"check": check})


def _host(text: str) -> str:
    """As the header Host has it, without the port."""
    bare = _plain(text).strip("[]").rstrip(".").lower()
    if "/" in bare or (":" in bare.replace("::", "") and not _is_address(bare)):
        raise FieldError("is not a host", "write a name or an address, without http:// and without a port")
    return bare


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


PublicKey = Annotated[str, _kind("public key, base64", _public_key)]
InterfaceName = Annotated[str, _kind("interface name", _interface)]
ExpectedInterface = Annotated[str, _kind("interface name, or namespace/interface", _expected_interface)]
InterfacePattern = Annotated[str, _kind("pattern", _interface_pattern)]
NamespaceName = Annotated[str, _kind("name", _namespace)]
Pattern = Annotated[str, _kind("pattern", _pattern)]
AbsolutePath = Annotated[str, _kind("absolute path", _path)]
OwnDirectory = Annotated[str, _kind("absolute path of a directory", _own_directory)]
HostName = Annotated[str, _kind("host name or address", _host)]
PathPattern = Annotated[str, _kind("absolute path, `*` and `?` allowed", _path)]
PeerName = Annotated[str, _kind("string", _peer_name)]
Address = Annotated[str, _kind("IP address", _address)]
Network = Annotated[str, _kind("network, CIDR", _network)]
MetricPattern = Annotated[str, _kind("pattern", _metric_pattern)]
Pid = Annotated[int, Meta(title="process id", ge=1, le=PID_MAX)]
EchoInterval = Annotated[float, _span("100ms", "1h")]
ProbeTimeout = Annotated[float, _span("100ms", "10s")]
FastInterval = Annotated[float, _span("50ms", "10s")]
Multiplier = Annotated[int, Meta(title="2 to 50", ge=2, le=50)]
MtuInterval = Annotated[float, _span("1s", "1d")]
Bucket = Annotated[float, Meta(title="seconds", extra={"check": _bucket})]
DownAfter = Annotated[float, _span("15s", "10m")]
HealthWindow = Annotated[float, _span("1m", "1h")]
Ratio = Annotated[
    float, Meta(title="0.01 to 1", extra={"check": _between(0.01, 1.0, "it is a part of the whole: 0.1 is 10 %")})
]
Factor = Annotated[float, Meta(title="1.5 to 100", extra={"check": _between(1.5, 100.0, "3 is three times as long")})]
