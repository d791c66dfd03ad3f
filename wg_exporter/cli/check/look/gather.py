"""Gathers the facts of this host, as the exporter that runs here sees it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from wg_exporter.cli.check.facts import ConfigFacts, ExporterFacts, Facts, HostFacts
from wg_exporter.cli.check.look.alone import clock_facts
from wg_exporter.cli.check.look.exporter import find
from wg_exporter.cli.check.look.files import conf_facts, config_facts
from wg_exporter.cli.check.look.system import (
    kernel_facts,
    listen_facts,
    missing_users,
    namespace_facts,
    track_files_problem,
    unit_facts,
)
from wg_exporter.cli.check.look.web import web_facts
from wg_exporter.cli.show.looking import Looks

if TYPE_CHECKING:
    from wg_exporter.cli.check.look.alone import Wish
    from wg_exporter.cli.check.look.exporter import Found
    from wg_exporter.status.rows import Overview

DEFAULT_LISTEN = (":9586",)


def of_host(wish: Wish) -> Facts:
    """What is so here. Takes a few seconds at most."""
    found = find(wish.socket)
    config, unseen = _config(wish, found)
    web_file = wish.web_file or (found.flags.web_file if found.flags else None)
    listen = wish.listen or (found.flags.listen if found.flags else DEFAULT_LISTEN)
    conf, conf_unseen = conf_facts(config.config) if config.config else ((), "the configuration is not known")
    return Facts(
        config,
        clock_facts(),
        web_facts(web_file, host=True) if web_file else None,
        HostFacts(
            _exporter(wish, found, config),
            kernel_facts(),
            unit_facts(),
            tuple(listen_facts(listen, guessed=not wish.listen and not found.flags)),
            unseen if found.running and not found.flags and not (wish.listen and wish.web_file) else "",
            conf,
            conf_unseen,
            tuple(namespace_facts(config.config)) if config.config else (),
            missing_users(),
            not wish.socket or Path(wish.socket).parent.is_dir(),
            track_files_problem(config.config.track_files) if config.config and config.config.track_files else "",
        ),
        os.geteuid(),
    )


def _config(wish: Wish, found: Found) -> tuple[ConfigFacts, str]:
    """The configuration to judge by, and why the flags of the exporter are not known."""
    unseen = ""
    if found.running and not found.flags:
        unseen = "the exporter that runs has other files than this host, as in a container; name them here"
        if not found.running.elsewhere:
            unseen = "the flags of the exporter that runs can't be seen"
    if wish.config_file:
        return config_facts(wish.config_file), unseen
    teller = found.overview.teller if found.overview else None
    named = teller.config_file if teller else ""
    if found.running and found.running.elsewhere and named:
        return ConfigFacts(None, unseen=unseen), unseen
    file = Path(named) if named else found.flags.config_file if found.flags else None
    return config_facts(file), unseen


def _exporter(wish: Wish, found: Found, config: ConfigFacts) -> ExporterFacts:
    teller = found.overview.teller if found.overview else None
    facts = ExporterFacts(
        wish.socket,
        teller.version if teller else "",
        found.running,
        found.unasked,
        found.denied,
        found.overview,
    )
    theirs = teller.config_file if teller else ""
    if teller and wish.config_file and os.path.abspath(wish.config_file) != theirs:  # noqa: PTH100 - links stay
        facts = facts._replace(overview=None, other_config=theirs)
    if facts.overview is None and config.config is not None:
        facts = facts._replace(overview=_own_look(config, wish.config_file))
    return facts


def _own_look(config: ConfigFacts, file: Path | None) -> Overview:
    assert config.config is not None  # noqa: S101 - for the type checker
    looks = Looks(config.config, file, "", again=False)
    try:
        return looks.look()
    finally:
        looks.close()
