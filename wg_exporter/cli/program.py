"""The command line with all its commands.

Exit codes: 0 done, 1 it could not be done, 2 wrong usage or configuration. Ctrl-C gives 130, and a reader that leaves
before the end (`show | head`) 141, as with other tools. Each problem is one line on standard error.
"""

from __future__ import annotations

import signal

import click

from wg_exporter import __version__
from wg_exporter.cli.check.command import check
from wg_exporter.cli.common import drop_output
from wg_exporter.cli.demo.command import demo
from wg_exporter.cli.diagnose.command import diagnose
from wg_exporter.cli.drift.command import drift
from wg_exporter.cli.events.command import events
from wg_exporter.cli.export import export
from wg_exporter.cli.mtu.command import mtu
from wg_exporter.cli.quiet import quiet
from wg_exporter.cli.serve import serve
from wg_exporter.cli.show.command import show
from wg_exporter.cli.up import up
from wg_exporter.linux.scarcity import scarce


class Program(click.Group):
    """The commands. Ctrl-C, or a reader of the output that leaves, gives no traceback."""

    def invoke(self, ctx: click.Context) -> object:
        """Run a command; turn Ctrl-C and a reader that left into exit codes."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            ctx.exit(128 + signal.SIGINT)
        except BrokenPipeError:
            drop_output()
            ctx.exit(128 + signal.SIGPIPE)
        except (MemoryError, OSError, RuntimeError) as error:
            problem = scarce(error)
            if not problem:
                raise
            raise click.ClickException(problem) from None


@click.group(cls=Program, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="wg-exporter")
def main() -> None:
    """Prometheus exporter and health monitor for WireGuard tunnels."""


for command in (serve, show, events, mtu, diagnose, drift, quiet, up, check, export, demo):
    main.add_command(command)
