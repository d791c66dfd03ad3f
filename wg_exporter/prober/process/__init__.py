"""The prober in a process of its own: its handle in the exporter, the messages, the privileges that it gives up."""
