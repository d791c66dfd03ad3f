"""Which peers are probed, and which address inside the tunnel stands for each. No I/O, no clock."""
