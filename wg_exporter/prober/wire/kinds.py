"""Which devices peers send packets into, so that what comes out of them says nothing about the path outside."""

TUNNELS = frozenset({"wireguard", "amneziawg", "tun"})
"""Their kinds as `ip -d link` has them; "tun" is WireGuard in userspace."""
