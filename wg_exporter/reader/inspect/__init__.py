"""What this host itself says of the way to one peer: routes, sockets, reverse path filter. Asked for seldom, one peer
at a time, when its tunnel does not work. Nothing on the host is changed by it.
"""
