"""Small echoes: whom to ping when, what is lost, how long a round trip takes. No sockets, no clock."""
