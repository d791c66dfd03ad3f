"""Probes: round-trip times, loss and the path MTU of every tunnel.

`packet` builds and parses packets; `targets` decides where to aim; `echo` (when to ping whom, loss, latency) and `pmtu`
(the MTU search and the verdict) are state machines without sockets or clocks; `engine` is the only module with sockets.
"""
