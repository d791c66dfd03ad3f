"""What is known of a device as a whole, as far as it tells how its peers are."""

from __future__ import annotations


class Place:
    """What is known of a device, for all of its peers. Times are None while it is there, or up."""

    __slots__ = ("down_since", "gone_since", "hung_since", "opaque")

    opaque: bool

    def __init__(self) -> None:
        self.opaque = False  # messages have other sizes than WireGuard's, so bytes do not tell what they were
        self.hung_since: float | None = None  # neither its daemon nor any probed peer has answered since
        self.down_since: float | None = None
        self.gone_since: float | None = None

    @property
    def well(self) -> bool:
        """Whether it is there and up, as far as is known."""
        return self.down_since is None and self.gone_since is None
