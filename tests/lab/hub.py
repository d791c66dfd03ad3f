"""A host with WireGuard devices and sites behind them, each of which can be broken in its own way and mended again.

    hub = lab.namespace("hub")
    a = HubDevice(lab, hub, "a", 0, [Plan("north"), Plan("phone", expected=False)])
    a.sites["north"].firewall()

Sites have a namespace and a cable of their own. What is expected up has an endpoint and keepalive, as people write it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from tests.lab import SOCKETS, keypair

if TYPE_CHECKING:
    from tests.lab import Keys, Lab, Namespace, WireGuard

KEEPALIVE = 25


class Plan(NamedTuple):
    """A site to be built: what it is called, and whether it should always be up."""

    name: str
    expected: bool = True


class Site:
    """One host that is reached through a tunnel."""

    def __init__(self, plan: Plan, keys: Keys, address: str, namespace: Namespace, device: WireGuard) -> None:
        self.name = plan.name
        self.keys = keys
        self.address = address
        self.namespace = namespace
        self.device = device

    def firewall(self) -> None:
        """Its endpoint takes nothing any more, as behind a firewall."""
        rules = "table inet cut {\n chain input {\n type filter hook input priority 0; policy drop;\n }\n}\n"
        self.namespace.run(["nft", "-f", "-"], stdin=rules)

    def cut(self) -> None:
        """Nothing goes to it or comes from it any more."""
        chains = "".join(
            f" chain {hook} {{\n type filter hook {hook} priority 0; policy drop;\n }}\n"
            for hook in ("input", "output")
        )
        self.namespace.run(["nft", "-f", "-"], stdin=f"table inet cut {{\n{chains}}}\n")

    def open(self) -> None:
        self.namespace.run(["nft", "delete", "table", "inet", "cut"])

    def change_key(self) -> None:
        """It got another key, and nobody told the hub."""
        self._set_key(keypair().private)

    def restore_key(self) -> None:
        self._set_key(self.keys.private)

    def kill(self) -> None:
        """Its daemon dies; on a kernel device somebody deletes it."""
        _kill(self.device)

    def revive(self, lab: Lab) -> None:
        """It is set up as it was."""
        self.device = lab.wireguard(self.namespace, self.name, self.device.conf.read_text(), [f"{self.address}/24"])

    def _set_key(self, private: str) -> None:
        self.namespace.run(["wg", "set", self.device.name, "private-key", "/dev/stdin"], stdin=private)


class HubDevice:
    """One device of the hub. `number` is its own among those of the hub: networks and ports follow from it."""

    def __init__(self, lab: Lab, hub: Namespace, name: str, number: int, plans: list[Plan]) -> None:
        self._lab = lab
        self._hub = hub
        self._name = name
        self._address = f"10.77.{number}.1/24"
        self.keys = keypair()
        port = 51820 + number
        keys = {plan.name: keypair() for plan in plans}
        conf = [f"[Interface]\nPrivateKey = {self.keys.private}\nListenPort = {port}\n"]
        hosts = []
        for at, plan in enumerate(plans, 2):
            near, far = f"198.18.{number}.{at * 4 + 1}", f"198.18.{number}.{at * 4 + 2}"  # RFC 2544
            address = f"10.77.{number}.{at}"
            host = lab.namespace(plan.name)
            lab.link(hub, host, f"{near}/30", f"{far}/30")
            hosts.append((plan, host, address, near))
            up = f"Endpoint = {far}:51820\nPersistentKeepalive = {KEEPALIVE}\n" if plan.expected else ""
            conf.append(
                f"\n[Peer]\n# friendly_name = {plan.name}\nPublicKey = {keys[plan.name].public}\n"
                f"AllowedIPs = {address}/32\n{up}"
            )
        self.conf = "".join(conf)
        self.device = lab.wireguard(hub, name, self.conf, [self._address])
        self.sites: dict[str, Site] = {}
        for plan, host, address, near in hosts:
            text = (
                f"[Interface]\nPrivateKey = {keys[plan.name].private}\nListenPort = 51820\n\n[Peer]\n"
                f"PublicKey = {self.keys.public}\nAllowedIPs = 10.77.{number}.0/24\nEndpoint = {near}:{port}\n"
            )
            device = lab.wireguard(host, plan.name, text, [f"{address}/24"])
            self.sites[plan.name] = Site(plan, keys[plan.name], address, host, device)

    @property
    def name(self) -> str:
        return self.device.name

    def kill(self) -> None:
        """Its daemon dies, and takes the device with it; on a kernel device somebody deletes it."""
        _kill(self.device)

    def revive(self) -> None:
        self.device = self._lab.wireguard(self._hub, self._name, self.conf, [self._address])

    def forget_session(self, name: str) -> None:
        """Make a site's peer anew, for its session would live on for minutes whatever is wrong."""
        site, run = self.sites[name], self._hub.run
        endpoints = run(["wg", "show", self.name, "endpoints"])
        at = next(line.split()[1] for line in endpoints.splitlines() if line.startswith(site.keys.public))
        run(["wg", "set", self.name, "peer", site.keys.public, "remove"])
        again = ["peer", site.keys.public, "endpoint", at, "persistent-keepalive", str(KEEPALIVE)]
        run(["wg", "set", self.name, *again, "allowed-ips", f"{site.address}/32"])

    def set(self, state: str) -> None:
        """`up` or `down`."""
        self._hub.ip("link", "set", self.name, state)


def _kill(device: WireGuard) -> None:
    if device.process:
        device.process.kill()
        device.process.wait()
        (SOCKETS / f"{device.name}.sock").unlink(missing_ok=True)
    else:
        device.namespace.ip("link", "delete", device.name)


def exporter_config(lab: Lab, hub: Namespace, devices: list[HubDevice]) -> str:
    """An exporter's configuration that shows the hub and nothing else of this machine."""
    names = ", ".join(f'"{device.device.conf}"' for device in devices)
    include = ", ".join(f'"{device.name}"' for device in devices)
    return f"interfaces: {{include: [{include}]}}\nnamespaces: [{{name: hub, netns: {hub.name}}}]\nnames: [{names}]\n"


def config_of_hosts(devices: list[HubDevice]) -> str:
    """The same for devices that each have a host of their own, or share one."""
    hosts = dict.fromkeys(device.device.namespace.name for device in devices)
    places = ", ".join(f"{{name: n{at}, netns: {host}}}" for at, host in enumerate(hosts))
    include = ", ".join(f'"{device.name}"' for device in devices)
    names = ", ".join(f'"{device.device.conf}"' for device in devices)
    return f"interfaces: {{include: [{include}]}}\nnamespaces: [{places}]\nnames: [{names}]\n"
