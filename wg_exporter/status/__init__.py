"""How the host is, for whoever asks: every device and peer as rows, and as a JSON document that both ways know."""
