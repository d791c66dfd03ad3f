"""What the reader tells of secret keys that it has compared: that they differ, and never more."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple


class KeysDiffer(StrEnum):
    """How the preshared key of a peer in a file differs from the one in use. No more than this is ever said of it."""

    FILE_ONLY = "file_only"
    DEVICE_ONLY = "device_only"
    OTHER = "other"


class KeyComparison(NamedTuple):
    """How the secret keys of a device compare with those in a file that describes it. The reader has compared them.

    `private_key` is True if they are the same, None if the file has none or it can't be told. `preshared_keys` has the
    public key of each peer whose preshared keys differ; what can't be told is not in it.
    """

    interface: str
    path: str
    private_key: bool | None
    preshared_keys: tuple[tuple[str, KeysDiffer], ...] = ()
