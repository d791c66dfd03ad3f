"""Inside the virtual machine: build a device, move bytes, let every contestant answer in turn, write the figures.

`python -m bench.guest PLAN.json RESULT.json`. One round is: bytes move for the wanted peers; one scrape of each
contestant, plain; bytes move again; one scrape of each, gzip. Whoever is not being measured is frozen.
That exactly the wanted peers moved is checked with `wg show` in every round.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import platform
import random
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from bench.contestants import Cost, Server, get, wg
from bench.sessions import SAFE_AGE, FarEnds, Identity, identity
from bench.stages import Stages

PORT = 51820
LOADS = {"tenth": 10, "all": 1}  # every tenth peer moves, or each
ROUNDS_OF_STAGES = 5
PATIENCE = 60.0  # seconds: who takes longer for a scrape is not measured at that size
OURS = "wg-exporter"
BEFORE = "wg-exporter before"  # an older version
ALONE = "wg-exporter in one process"
COMPAT = "wg-exporter for other dashboards"  # a process of its own, as the pages that it renders stay in memory
WORKERS = (OURS, ALONE, BEFORE, COMPAT)  # they look at the device in the background too
PAGES = {"wg-exporter as mdlayher": "/metrics/mdlayher", "wg-exporter as MindFlavor": "/metrics/mindflavor"}
PROBED = 500  # peers of the largest device, in a measurement of its own
PROBER = "its prober, meanwhile"
SETTLED = 32.0  # seconds: the first checks are spread, and states are known after 30
PROBED_AGAIN = 7.0  # seconds, in which each probed peer is probed
RENEWALS = 5  # of all sessions, under one load: on a slow machine they live for one round, and take minutes to make
LEAST_ROUNDS = 3


class Device:
    """wg0 with `count` peers: two allowed IPs, an endpoint, a keepalive interval and a session each."""

    def __init__(self, count: int) -> None:
        source = random.Random(count)
        own = identity(0, source.randbytes(32))
        self.peers = [identity(n + 1, source.randbytes(32)) for n in range(count)]
        subprocess.run(["ip", "link", "add", "wg0", "type", "wireguard"], check=True)
        head = f"[Interface]\nPrivateKey = {_base64(own.private.private_bytes_raw())}\nListenPort = {PORT}\n"
        conf = head + "".join(_section(peer) for peer in self.peers)
        subprocess.run(["wg", "setconf", "wg0", "/dev/stdin"], input=conf, text=True, check=True)
        # An address inside, from which probes can be sent.
        subprocess.run(["ip", "address", "add", "10.255.255.254/8", "dev", "wg0"], check=True)
        subprocess.run(["ip", "link", "set", "wg0", "up"], check=True)
        self.far = FarEnds(own.public, PORT, self.peers, _received)
        self.far.connect([peer.number for peer in self.peers])
        # Set after the handshake, and as long as can be: set before, the device would try to reach all of them at once.
        for start in range(0, count, 300):
            words = [word for p in self.peers[start : start + 300] for word in _keepalive(p)]
            subprocess.run(["wg", "set", "wg0", *words], check=True)

    def transfer(self) -> dict[str, str]:
        """Bytes of every peer, as `wg` shows them."""
        text = subprocess.run(["wg", "show", "wg0", "transfer"], check=True, capture_output=True, text=True).stdout
        return {line[:44]: line[45:] for line in text.splitlines()}

    def remove(self) -> None:
        """Make room for the next size."""
        self.far.close()
        subprocess.run(["ip", "link", "del", "wg0"], check=True)


def _received() -> int:
    """Packets that the device took in."""
    return int(Path("/sys/class/net/wg0/statistics/rx_packets").read_text())


def _base64(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


def _section(peer: Identity) -> str:
    a, b, c = peer.number >> 16, peer.number >> 8 & 255, peer.number & 255
    return f"[Peer]\nPublicKey = {_base64(peer.public)}\nAllowedIPs = 10.{a}.{b}.{c}/32, fd00::{peer.number:x}/128\n"


def _keepalive(peer: Identity) -> list[str]:
    return ["peer", _base64(peer.public), "persistent-keepalive", "65535"]


def _check_probed(port: int, answering: int) -> None:
    """Raises RuntimeError unless the wanted number of peers is probed, and as many as said answer."""
    body: list[bytes] = []
    get(port, keep=body)
    told = [line for line in b"".join(body).split(b"\n") if line.startswith(b"wireguard_probe_up{")]
    up = sum(line.endswith(b" 1") for line in told)
    if (len(told), up) != (PROBED, answering):
        raise RuntimeError(f"{len(told)} peers are probed instead of {PROBED}, and {up} answer instead of {answering}")


def _samples(port: int) -> int:
    """Lines of the page that are samples."""
    body: list[bytes] = []
    get(port, keep=body)
    lines = b"".join(body).split(b"\r\n\r\n", 1)[1].splitlines()
    return sum(not line.startswith(b"#") for line in lines if line)


class Run:
    """All measurements of one size."""

    def __init__(self, plan: dict[str, Any], count: int, logs: Path) -> None:
        self.rounds: int = plan["rounds"]
        self.count = count
        self.device = Device(count)
        self._logs = logs
        self._configure()
        commands: dict[str, list[str]] = plan["contestants"]
        self.servers = [self._server(name, 9600 + n, command) for n, (name, command) in enumerate(commands.items())]
        self.gzip: dict[str, bool] = {}
        self.sizes: dict[str, int] = {}
        self.incomplete: dict[str, int] = {}
        self.too_slow: dict[str, float] = {}
        for server in list(self.servers):
            try:
                self._warm(server)
            except TimeoutError:
                self.too_slow[server.name] = PATIENCE
                self.servers.remove(server)
                server.stop(at_once=True)

    def _configure(self) -> None:
        """Scrapes alone are measured with probing off, for the others don't probe. Besides, some peers are probed."""
        probed = "".join(
            f'  - {{public_key: "{_base64(peer.public)}", probe: true}}\n'
            for peer in self.device.peers[:: max(1, self.count // PROBED)]
        )
        (self._logs / "plain.yml").write_text("probe: {enabled: false}\n")
        (self._logs / "probing.yml").write_text(f"probe: {{enabled: false}}\npeers:\n{probed}")

    def _server(self, name: str, port: int, command: list[str]) -> Server:
        places = {"PORT": str(port), "CONFIG": f"{self._logs}/plain.yml", "PROBING": f"{self._logs}/probing.yml"}
        words = list(command)
        for placeholder, value in places.items():
            words = [word.replace(placeholder, value) for word in words]
        return Server(name, port, words, self._logs / f"{name}.log")

    def probing(self, command: list[str], *, answering: bool) -> dict[str, Any]:
        """The costs of ours while it probes some of the peers, beside `wg`, under each load; and the memory of all its
        processes in KiB. The far ends answer, or none does: then these peers are silent, and in the end down.

        The prober is a process that works at its own pace, whether or not anybody scrapes. What it uses during a scrape
        is told apart.
        """
        for server in self.servers:
            server.rest()
        probed = [peer.number for peer in self.device.peers[:: self.count // PROBED]]
        found: dict[str, Any] = {"rss": 0}
        for share, step in LOADS.items():
            moving = [peer.number for peer in self.device.peers[::step]]
            ours = self._server(f"wg-exporter-probing-{share}", 9690, command)
            try:
                # It settles with the sessions of the probed ones: those of all would be too old when the rounds begin.
                self.device.far.connect(probed)
                with self._answering(answering):
                    self._warm(ours)
                    ours.wake()
                    time.sleep(SETTLED)
                    ours.rest()
                found[share], rss = self._probed_load(ours, moving, answering=answering)
            finally:
                ours.stop()
            found["rss"] = max(found["rss"], rss)
        return found

    def _probed_load(self, ours: Server, moving: list[int], *, answering: bool) -> tuple[dict[str, list[Cost]], int]:
        """The costs under one load, and the most memory of all processes of ours in KiB.

        Raises RuntimeError if there are too few rounds.
        """
        costs: dict[str, list[Cost]] = {OURS: []}
        ready, memory = self.rounds, 0
        for _ in range(RENEWALS):
            done = len(costs[OURS])
            self.device.far.connect(moving)
            self.device.far.prepare(moving, ready)
            with self._answering(answering):
                ours.wake()
                time.sleep(PROBED_AGAIN)
                self._probed_rounds(ours, moving, PROBED if answering else 0, costs, ready)
                memory = max(memory, ours.memory_of_all())
            left = self.rounds - len(costs[OURS])
            if not left:
                break
            ready = min(left, len(costs[OURS]) - done + 1)  # as many as went well, and one
        if len(costs[OURS]) < LEAST_ROUNDS:
            raise RuntimeError(f"{len(costs[OURS])} rounds, with {len(moving)} moving, until the sessions were too old")
        return costs, memory

    def _answering(self, yes: bool) -> contextlib.AbstractContextManager[None]:  # noqa: FBT001
        return self.device.far.answering() if yes else contextlib.nullcontext()

    def _probed_rounds(
        self, ours: Server, moving: list[int], answering: int, costs: dict[str, list[Cost]], most: int
    ) -> None:
        """Rounds of ours and `wg`, as many as the sessions live for, while `answering` of the probed peers answer."""
        _check_probed(ours.port, answering)
        wanted = {_base64(self.device.peers[number - 1].public) for number in moving}
        longest = 0.0
        for _ in range(most):
            start = time.monotonic()
            if self.device.far.age() > SAFE_AGE - longest:
                break
            transfer = self.device.transfer()
            ours.wake()
            self.device.far.move(moving)
            before = ours.cpu_of_prober()
            cost = ours.scrape()
            probing = ours.cpu_of_prober() - before
            costs.setdefault(OURS, []).append(cost._replace(cpu=cost.cpu - probing))
            costs.setdefault(PROBER, []).append(Cost(0.0, probing, 0))
            ours.rest()
            after = self.device.transfer()
            if still := sum(after[key] == transfer[key] for key in wanted):
                raise RuntimeError(f"{still} peers did not move")
            costs.setdefault("wg to /dev/null", []).append(wg(pipe=False))
            costs.setdefault("wg to a pipe", []).append(wg(pipe=True))
            longest = max(longest, time.monotonic() - start)
        ours.wake()
        _check_probed(ours.port, answering)
        ours.rest()

    def _warm(self, server: Server) -> None:
        """Until it answers with all peers: the first read of a large device can take longer than it is waited for."""
        server.wait(PATIENCE)
        deadline = time.monotonic() + PATIENCE
        while _samples(server.port) < self.count:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{server.name} has not told of all peers within {PATIENCE:.0f} s")
        if server.name == COMPAT:
            self.sizes |= {name: get(server.port, path=path) for name, path in PAGES.items()}
            self.gzip[COMPAT] = False
        else:
            plain, packed = get(server.port), get(server.port, gzip=True)
            self.sizes |= {server.name: plain, f"{server.name} gzip": packed}
            self.gzip[server.name] = packed < plain / 2
        server.rest()

    def samples(self) -> dict[str, int]:
        """How many each serves, now that it has been looking for a while."""
        found = {}
        for server in self.servers:
            if server.name != COMPAT:
                server.wake()
                found[server.name] = _samples(server.port)
                server.rest()
        return found

    def load(self, share: str) -> dict[str, list[Cost]]:
        """Every round under one load: `tenth` or `all` of the peers move."""
        step = LOADS[share]
        moving = [peer.number for peer in self.device.peers[::step]]
        wanted = {_base64(peer.public) for peer in self.device.peers[::step]}
        costs: dict[str, list[Cost]] = {}
        moves = 2 * sum(server.name in WORKERS for server in self.servers)
        for number in range(self.rounds):
            if number == 0 or self.device.far.age() > SAFE_AGE - self.count / 150:
                self.device.far.connect(moving)
                time.sleep(1)
            self.device.far.prepare(moving, moves)
            before = self.device.transfer()
            self._turn(moving, costs, gzip=False)
            costs.setdefault("wg to /dev/null", []).append(wg(pipe=False))
            costs.setdefault("wg to a pipe", []).append(wg(pipe=True))
            self._turn(moving, costs, gzip=True)
            after = self.device.transfer()
            moved = {key for key in after if after[key] != before[key]}
            if moved != wanted:
                raise RuntimeError(f"{len(moved)} peers moved instead of {len(wanted)}")
        return costs

    def _turn(self, moving: list[int], costs: dict[str, list[Cost]], *, gzip: bool) -> None:
        """One scrape of each. Before one that works in the background bytes move while it is awake: it must not have
        seen that already."""
        for server in self.servers:
            if gzip and not self.gzip[server.name]:
                continue
            server.wake()
            if server.name in WORKERS:
                self.device.far.move(moving)
            if server.name == COMPAT:
                for name, path in PAGES.items():
                    self._scrape(server, name, costs, path=path)
            else:
                self._scrape(server, f"{server.name} gzip" if gzip else server.name, costs, gzip=gzip)
            server.rest()

    def _scrape(self, server: Server, name: str, costs: dict[str, list[Cost]], **how: Any) -> None:
        try:
            cost = server.scrape(**how)
        except OSError:  # it hung up half way
            cost = None
        if cost is None or cost.size < 0.9 * self.sizes[name]:
            self.incomplete[name] = self.incomplete.get(name, 0) + 1
        else:
            costs.setdefault(name, []).append(cost)

    def soak(self, scrapes: int) -> dict[str, list[int]]:
        """RSS of ours in KiB, ten times over this number of scrapes, while a tenth of the peers moves."""
        ours = self.servers[0]
        ours.wake()
        moving = [peer.number for peer in self.device.peers[::10]]
        self.device.far.connect(moving)
        self.device.far.prepare(moving, 10)
        seen = []
        for n in range(scrapes):
            if n % (scrapes // 10) == 0 and self.device.far.age() < SAFE_AGE:
                self.device.far.move(moving)
            get(ours.port, gzip=n % 2 == 1)
            if (n + 1) % (scrapes // 10) == 0:
                seen.append(ours.memory())
        return {"rss": seen, "highest": [ours.memory(highest=True)]}

    def stages(self) -> dict[str, dict[str, list[float]]]:
        """Where the time of ours goes, under each load; measured in this process."""
        stages = Stages(socket.if_nametoindex("wg0"))
        result: dict[str, dict[str, list[float]]] = {}
        for share, step in LOADS.items():
            moving = [peer.number for peer in self.device.peers[::step]]
            self.device.far.connect(moving)
            self.device.far.prepare(moving, ROUNDS_OF_STAGES + 1)
            for n in range(ROUNDS_OF_STAGES + 1):
                self.device.far.move(moving)
                took = stages.measure()
                for stage in took if n else ():  # the first follows a handshake
                    result.setdefault(share, {}).setdefault(stage, []).append(took[stage])
        stages.close()
        return result

    def background(self, seconds: float) -> float:
        """CPU that ours uses while nobody scrapes, as a share of one CPU."""
        ours = self.servers[0]
        ours.wake()
        before = ours.cpu()
        time.sleep(seconds)
        return (ours.cpu() - before) / seconds

    def end(self, *, last: bool) -> None:
        """Stop everything of this size. A large device takes minutes to remove: the last one goes with the guest."""
        for server in self.servers:
            server.stop()
        if not last:
            self.device.remove()


def main(plan_file: Path, result_file: Path) -> None:
    """Measure every size of the plan and write the result after each, so that an abort leaves what there was."""
    plan = json.loads(plan_file.read_text())
    subprocess.run(["modprobe", "wireguard"], check=True)
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    result: dict[str, Any] = {"kernel": os.uname().release, "python": platform.python_version(), "sizes": {}}
    for count in plan["sizes"]:
        start = time.monotonic()
        run = Run(plan, count, result_file.parent)
        figures: dict[str, Any] = {"too_slow": run.too_slow, "setup": time.monotonic() - start}
        for share in LOADS:
            figures[share] = run.load(share)
        figures["samples"] = run.samples()
        if OURS in plan["contestants"]:
            ours = run.servers[0]
            figures["rss"], figures["highest"] = ours.memory(), ours.memory(highest=True)
            if soak := plan["soak"].get(str(count)):
                figures["soak"] = run.soak(soak)
            figures["background"] = run.background(20)
            ours.rest()
            figures["stages"] = run.stages()
        if count >= 10 * PROBED:
            for kind, answering in (("probing", True), ("silence", False)):
                try:
                    figures[kind] = run.probing(plan["probing"], answering=answering)
                except (RuntimeError, TimeoutError) as error:  # everything else was measured
                    figures[kind] = str(error)
        figures["incomplete"] = run.incomplete
        run.end(last=count == plan["sizes"][-1])
        figures["took"] = time.monotonic() - start
        result["sizes"][str(count)] = figures
        result_file.write_text(json.dumps(result))
        print(f"{count} peers: {figures['took']:.0f} s", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
