"""`wg-exporter diagnose`: why does this one tunnel not work, and what mends it?"""
