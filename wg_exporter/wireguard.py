"""WireGuard's own numbers: what its messages weigh on the wire, as its byte counters count them.

Source: drivers/net/wireguard/messages.h; "WireGuard: Next Generation Kernel Network Tunnel", section 5.4.
"""

INITIATION = 148  # bytes: the first message of a handshake
RESPONSE = 92  # bytes: the second
COOKIE_REPLY = 64  # bytes: what a side under load sends instead of the second; no byte counter has it
KEEPALIVE = 32  # bytes: a data message without data; one with data has as many more, and is padded to 16

OVERHEAD_IPV4 = 60  # bytes around an inner packet: IPv4 20, UDP 8, the data message's header 16 and its tag 16
OVERHEAD_IPV6 = 80
