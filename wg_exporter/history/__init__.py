"""What outlives one look at the host: which devices appeared, vanished or changed, and counts. No I/O, no clock."""
