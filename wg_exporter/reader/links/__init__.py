"""Interfaces: state, MTU, counters, addresses, and which UDP ports are bound. By netlink and /proc."""
