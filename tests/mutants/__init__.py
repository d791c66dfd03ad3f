"""Do the tests notice a change of the program? Changes are drawn and tried: `make mutants SEED=1 COUNT=60`.

- `places` says where changes are made, and which tests should notice them.
- `draw` lets mutmut make all changes that it knows, leaves out what only a reader sees, and draws some by a seed.
- `trees` are copies of the checkout, each with an interpreter of its own, in which changes are made and tests run.
- `judge` runs the tests of a place on one change, the quickest file first, until one fails.
- `report` counts, and writes what nobody noticed into build/mutants.md.
- `explained.toml` names the changes that change nothing.

Of mutmut only the operators are used, not its runner: that one changes functions only, while the rules of `health` and
the panels of the dashboards stand outside of functions, and it knows neither processes nor pages that are generated.
"""
