"""Packets of each peer: counted in the kernel by a small program at tc's hooks of each WireGuard device."""
