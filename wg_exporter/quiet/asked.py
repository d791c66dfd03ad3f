"""What may be asked of an exporter: to leave a peer or an interface alone for a while, and to end that."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, TypeVar

import msgspec
from msgspec import Meta

from wg_exporter.quiet import LONGEST, LONGEST_REASON, SHORTEST, is_plain

if TYPE_CHECKING:
    from collections.abc import Mapping

    from wg_exporter.model import PeerKey


class AskedError(ValueError):
    """This can't be done. The message is one line that says why."""


class _Whom(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    interface: Annotated[str, Meta(min_length=1, max_length=15)]
    netns: Annotated[str, Meta(max_length=255)] = ""
    public_key: Annotated[str, Meta(pattern="^([A-Za-z0-9+/]{43}=)?\\Z", max_length=44)] = ""

    @property
    def key(self) -> PeerKey:
        return self.netns, self.interface, self.public_key


class End(_Whom):
    """End the quiet of a peer or, without `public_key`, of an interface."""


class Begin(_Whom):
    """Leave a peer or, without `public_key`, an interface alone for so many seconds from now on."""

    seconds: Annotated[float, Meta(ge=SHORTEST, le=LONGEST)]
    reason: Annotated[str, Meta(max_length=LONGEST_REASON)] = ""


class Answer(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """What was begun or ended. Times are in seconds since the epoch. `problem` says why it will not survive a restart
    of the exporter, and is null if it will.
    """

    netns: str
    interface: str
    public_key: str | None
    name: str | None
    since: float
    until: float
    reason: str | None
    problem: str | None


def begin(parameters: Mapping[str, str]) -> Begin:
    """The parameters of a request, checked. Raises AskedError."""
    asked = _checked(parameters, Begin)
    if not is_plain(asked.reason):
        raise AskedError("the reason must be one line that can be printed")
    for name in ("interface", "netns"):
        if not is_plain(getattr(asked, name)):
            raise AskedError(f"{name} holds what can't be printed")
    return asked


def end(parameters: Mapping[str, str]) -> End:
    """The parameters of a request, checked. Raises AskedError."""
    return _checked(parameters, End)


Asked = TypeVar("Asked", bound=_Whom)


def _checked(parameters: Mapping[str, str], kind: type[Asked]) -> Asked:
    # A + that was not escaped arrives as a blank, which no key has.
    given = {name: value.replace(" ", "+") if name == "public_key" else value for name, value in parameters.items()}
    if given.get("public_key") == "":  # of a script whose variable is empty, it would be quiet for a whole interface
        raise AskedError("public_key is empty; without it, the whole interface is meant")
    try:
        return msgspec.convert(given, kind, strict=False)
    except (msgspec.ValidationError, OverflowError) as error:
        raise AskedError(_words(str(error))) from None


def _words(error: str) -> str:
    """An error of msgspec as a line about a parameter, without what was sent."""
    found = re.search(r"`\$\.(\w+)`", error)
    if found is None or found[1] not in {"seconds", "reason", "interface", "netns", "public_key"}:
        missing = re.search(r"missing required field `(\w+)`", error)
        return f"{missing[1]} is missing" if missing else "there is a parameter that is not known"
    words = {
        "seconds": f"must be a number from {SHORTEST:.0f} to {LONGEST:.0f}",
        "reason": f"has at most {LONGEST_REASON} characters",
        "interface": "must be the name of an interface",
        "netns": "must be the name of a network namespace",
        "public_key": "must be a WireGuard public key, 44 characters",
    }
    return f"{found[1]} {words[found[1]]}"
