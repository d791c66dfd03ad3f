"""Fast echoes: whether a peer answers right now, for machines that move traffic. In no figure of loss or latency."""
