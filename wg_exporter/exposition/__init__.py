"""What `/metrics` says: from rows to samples, from samples to bytes. No I/O, no clock."""
