"""The other processes, as the exporter sees them: started, told, asked, and started again when they die."""
