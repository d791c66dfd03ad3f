"""Kernel WireGuard and AmneziaWG: the dump of generic netlink, and the peers in it."""
