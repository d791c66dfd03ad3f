"""Who each peer is: its name, and whether it should be up. No I/O, no clock."""
