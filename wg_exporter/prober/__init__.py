"""Probes: round-trip times, loss and the path MTU of every tunnel.

`echo` and `mtu` decide what to send and what it proves, and have no sockets and no clock. `wire` has the sockets and
decides nothing. `driver` runs them all in one thread, over the `transport`; `__main__` in a process of its own, with
`CAP_NET_RAW` and no other right.
"""
