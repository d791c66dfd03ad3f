"""Which rules of this host's nftables drop the packets of one tunnel.

`ruleset` has the rows, `source` reads them from the kernel, `walk` follows a packet through them, `concerned` knows the
packets of a tunnel.
"""
