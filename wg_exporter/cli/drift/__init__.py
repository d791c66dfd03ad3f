"""`wg-exporter drift`: how the devices differ from the files that describe them."""
