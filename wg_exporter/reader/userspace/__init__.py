"""Userspace WireGuard: the control sockets of its daemons, and their protocol (UAPI)."""
