"""Write docs/check.md from the checks themselves. With `--check`, only compare.

What can be found is in wg_exporter/cli/check/, a module for each subject.
"""

from __future__ import annotations

import sys

from generating import DOCS, run, table

from wg_exporter.cli.check.checks import SUBJECTS
from wg_exporter.cli.check.screen import MOST

PAGE = """\
<!-- Written by docs/generate_check.py from wg_exporter/cli/check/. Do not edit by hand. -->
# Check

`wg-exporter check` says what is wrong with an installation before it matters, and how to mend it. It changes
nothing, and runs no program but `systemctl show`.

    sudo wg-exporter check                                   # this host, as the exporter that runs here has it
    wg-exporter check --config.file=FILE                     # a file alone: no rights, no exporter, any host
    wg-exporter check --config.file=FILE --web.config.file=FILE
    sudo wg-exporter check --host --config.file=FILE         # this host, by a file that is not in use yet
    wg-exporter check --page=http://localhost:9093           # send a test page, and say who gets it

- **It asks the exporter that runs**, on its Unix socket, so it says what `/metrics` and the page at `/` say. From its
  process it knows the flags: the addresses and the web configuration. Where none answers it looks for itself, once, by
  `--config.file` or the defaults.
- **What can't be found out is said**, as `not known`, and is never taken for well. Run it as root.
- Neither keys nor passwords are in what it prints.

| exit code | meaning |
|---|---|
| 0 | nothing was found, or notes (`info`) alone |
| 1 | there are errors or warnings; with `--fail-on=error` errors alone count |
| 2 | a configuration can't be used (each mistake is a finding), or a flag |

## In automation

With a file and without `--host` only what stands in the files is judged: not who can read them where they lie, and not
what they match on this host. A certificate that a web configuration names, and that is not there, is `not known`. So it
can go where files are made:

    - ansible.builtin.template:
        src: wg-exporter.yml.j2
        dest: /etc/wg-exporter/config.yml
        mode: "0644"
        validate: /opt/wg-exporter/bin/wg-exporter check --config.file=%s
      notify: reload wg-exporter

A web configuration with a certificate that ends soon should still be deployed: `--fail-on=error`.

In a pipe each finding is a line, `SEVERITY ID PLACE: WHAT; fix: FIX`, with {most} of each id at most. `--json` has all:

| key | meaning |
|---|---|
| `version` | 1; in this version keys may be added, and none is removed or changes its meaning |
| `findings` | a list, the worst first: `id`, `severity` (`error`, `warning`, `info`), `where`, `what`, `fix` |
| `where` | what of this applies: `file`, `line`, `netns`, `interface`, `peer`, `address` |
| `not_known` | what could not be found out: `subject` and `why` |
| `checks_done` | the number of checks of which all could be found out |

## What it finds
{subjects}"""


def page() -> str:
    """The whole text of docs/check.md."""
    return PAGE.format(most=MOST, subjects="".join(map(_subject, SUBJECTS)))


def _subject(name: str) -> str:
    kinds = [kind for check in SUBJECTS[name] for kind in check.kinds]
    rows = ((f"`{kind.id}`", kind.severity, kind.meaning, kind.fix) for kind in kinds)
    return f"\n### {name}\n\n{table(('id', 'severity', 'what it means', 'what to do'), rows)}"


if __name__ == "__main__":
    sys.exit(run(DOCS / "check.md", page, __doc__))
