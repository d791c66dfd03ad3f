"""The wire watcher: what passes on the wire of WireGuard's handshakes, and who refuses it. It sends nothing.

`decode` takes packets apart, `filters` makes what the kernel runs before it hands any over, `book` keeps what was seen
of each peer and believes as little as it must, `sockets` has the packet sockets, and `watcher` opens and closes them.
"""
