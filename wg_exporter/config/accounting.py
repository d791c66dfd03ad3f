"""What is counted in the kernel: the section `accounting`."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct


class Accounting(Struct, frozen=True, forbid_unknown_fields=True):
    """What is counted beyond what WireGuard counts itself."""

    enabled: Annotated[
        bool,
        Meta(
            description="Count the packets of each peer, by a small program in the kernel (docs/accounting.md). It "
            "takes CAP_BPF: a drop-in of the systemd unit."
        ),
    ] = False
