"""`python -m wg_exporter.cli`: the program, run by a chosen interpreter."""

from wg_exporter.cli.entry import main

main()
