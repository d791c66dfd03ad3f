"""What outlives one look at the host: who appeared, vanished or changed, and counts of it. No I/O, no clock."""
