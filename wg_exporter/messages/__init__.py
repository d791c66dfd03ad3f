"""What the processes of the exporter say to each other: the only things that cross between their rights."""
