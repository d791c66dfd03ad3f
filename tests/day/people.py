"""What tunnels are used for: phones in pockets, laptops in offices, servers that talk to each other."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.day.loop import DAY

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

    from tests.day.loop import Loop
    from tests.day.wireguard import End

HOUR = 3600.0
FULL = 1452  # bytes on the wire of a packet of 1420


def answered_with(size: int, packets: int = 1) -> Callable[[End], None]:
    """The other end answers with so much."""
    return lambda end: end.send(size, packets)


class Phone:
    """Sleeps most of the time, and wakes up anywhere. What is sent to it while it sleeps is lost."""

    def __init__(self, loop: Loop, rng: Random, here: End, there: End) -> None:
        self.loop, self.rng, self.here, self.there = loop, rng, here, there
        there.on = False
        here.endpoint = 0
        self.pause = rng.choice((600.0, 1800.0, 7200.0))
        loop.at(rng.expovariate(1 / self.pause), self.wake)
        loop.at(rng.uniform(0, 4 * HOUR), self.push)

    def wake(self) -> None:
        if self.rng.random() < 0.4:
            self.there.address += 1
        self.there.on = True
        self.until = self.loop.now + self.rng.expovariate(1 / 180.0)
        self.use()

    def use(self) -> None:
        if self.loop.now >= self.until:
            self.there.on = False
            self.loop.at(self.loop.now + 5 + self.rng.expovariate(1 / self.pause), self.wake)
            return
        if self.rng.random() < 0.02:
            self.there.address += 1  # from the office Wi-Fi to the street
        self.there.send(self.rng.randrange(80, 800, 16), 1, answered_with(FULL, self.rng.randint(1, 40)))
        self.loop.at(self.loop.now + self.rng.expovariate(1 / 12.0), self.use)

    def push(self) -> None:
        """A mail arrives, whether it is awake or not."""
        self.here.send(208, 1, answered_with(128))
        self.loop.at(self.loop.now + self.rng.expovariate(1 / (4 * HOUR)), self.push)


class Laptop:
    """In use from the morning to the evening, and shut in between."""

    def __init__(self, loop: Loop, rng: Random, here: End, there: End) -> None:
        self.loop, self.rng, self.there = loop, rng, there
        there.on = False
        here.endpoint = 0
        self.until = rng.uniform(16, 19) * HOUR
        loop.at(rng.uniform(7, 10) * HOUR, self.open)

    def open(self) -> None:
        self.there.on = True
        self.use()

    def use(self) -> None:
        if self.loop.now >= self.until:
            self.there.on = False
            return
        self.there.send(self.rng.randrange(80, 1400, 16), 1, answered_with(FULL, self.rng.randint(1, 20)))
        self.loop.at(self.loop.now + self.rng.expovariate(1 / 20.0), self.use)


class Server:
    """Always there. Some talk all the time, some send what nobody answers, some keep silent."""

    def __init__(self, loop: Loop, rng: Random, here: End, there: End) -> None:
        self.loop, self.rng, self.here, self.there = loop, rng, here, there
        for pause in (rng.choice((20.0, 60.0, 300.0)), rng.choice((30.0, 600.0, 10 * DAY))):
            loop.at(rng.expovariate(1 / pause), self.ask, pause)
        if rng.random() < 0.3:
            loop.at(rng.uniform(0, 60), self.log)

    def ask(self, pause: float) -> None:
        asking = self.here if self.rng.random() < 0.5 else self.there
        size, answer = self.rng.randrange(80, 1440, 16), self.rng.randrange(80, 1440, 16)
        asking.send(size, self.rng.choice((1, 1, 1, 8)), answered_with(answer, self.rng.choice((1, 1, 4, 60))))
        self.loop.at(self.loop.now + self.rng.expovariate(1 / pause), self.ask, pause)

    def log(self) -> None:
        """A line to a log server, which does not answer: only WireGuard itself acknowledges it."""
        self.here.send(self.rng.randrange(80, 480, 16))
        self.loop.at(self.loop.now + self.rng.uniform(10, 60), self.log)


class Stranger:
    """Was set up once, and never came."""

    def __init__(self, _loop: Loop, _rng: Random, here: End, there: End) -> None:
        here.endpoint = 0
        there.on = False
