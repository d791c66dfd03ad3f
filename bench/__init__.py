"""The benchmark: one scrape at 100, 1,000 and 10,000 peers against `wg show all dump` and the other exporters."""
