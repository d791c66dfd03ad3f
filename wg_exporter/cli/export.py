"""`wg-exporter export`: writes the rules, the dashboards and the docs of this version to where others read them.

They come with what differs from site to site filled in, so that nobody has to edit them, and a later version can be
written over them. Nothing is written if one of the files is there already and differs.
"""

from __future__ import annotations

import errno
import json
import os
import re
import stat
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import click

from wg_exporter.cli.common import UsageProblem, output

if TYPE_CHECKING:
    from collections.abc import Mapping

# ruff: noqa: PLC0415 - imported where they are used: `--help` answers at once, the daemon stays small

STDOUT = "-"

_RUNBOOK = re.compile(r"^( *runbook_url: ).*/docs/alerts/(\w+).*$", re.MULTILINE)
_URL = re.compile(r"https?://[^\s\"'{}\\]+")
_PROVISIONED = re.compile(r"^( *path: ).*$", re.MULTILINE)


class _Filling(NamedTuple):
    """What a site wants to be filled in. Empty: as it is."""

    runbook_url: str = ""
    scheme: str = ""
    datasource: str = ""
    job: str = ""


# For which of them each flag is. All others are written as they are.
_FLAGS = {"runbook_url": "rules", "scheme": "rules", "datasource": "dashboards", "job": "dashboards"}


@click.command(short_help="Write the alert rules, dashboards, examples or docs of this version.")
@click.argument("what", type=click.Choice(["rules", "dashboards", "prometheus", "alertmanager", "docs"]))
@click.argument("directory", default=".", metavar="[DIR]")
@click.option("--force", is_flag=True, help="Replace files that differ.")
@click.option(
    "--runbook-url",
    "runbook_url",
    default="",
    metavar="URL",
    help="Of rules: where the pages on alerts are. The name of the alert is put after it, or in place of ALERT in it. "
    "By default they are at the exporter itself, under /docs/alerts/.",
)
@click.option(
    "--scheme",
    type=click.Choice(["http", "https"]),
    help="Of rules: how the exporter is reached by a browser, for links in the text of alerts.",
)
@click.option(
    "--datasource",
    default="",
    metavar="NAME",
    help="Of dashboards: the data source, by its name or uid, that is chosen at first.",
)
@click.option("--job", default="", metavar="NAME", help="Of dashboards: the job that is chosen at first.")
def export(  # noqa: PLR0917 - click passes them by name
    what: str,
    directory: str,
    force: bool,  # noqa: FBT001 - click passes it by name
    runbook_url: str,
    scheme: str | None,
    datasource: str,
    job: str,
) -> None:
    """Write what belongs to this version of wg-exporter, so that it fits the program, into DIR: the alert rules, the
    dashboards of Grafana, examples for Prometheus (with `silent.rules.yml`, the rules for gateways that it does not
    scrape itself) and for Alertmanager, or the docs as Markdown.

    DIR is a directory, not a file: by default the current one, and made if it is not there. With `-` a single file goes
    to standard output. A file that is there already and differs is not replaced without --force; then nothing is
    written, and the exit code is 1.
    """
    from wg_exporter.shipped import MissingError

    filling = _Filling(runbook_url, scheme or "", datasource, job)
    _check(what, filling)
    if Path(directory).suffix in {".yml", ".yaml", ".json", ".md"} and not Path(directory).is_dir():
        raise UsageProblem(f"export {what}: {directory} looks like a file; give the directory that takes it")
    try:
        files = _texts(what, filling, directory)
    except MissingError as error:
        raise click.ClickException(str(error)) from None
    if directory == STDOUT:
        if len(files) > 1:
            raise UsageProblem(f"export {what}: {len(files)} files can't go to standard output; give a directory")
        with output():
            click.echo(next(iter(files.values())), nl=False)
        return
    _write(Path(directory), files, force=force)


def _check(what: str, filling: _Filling) -> None:
    for flag, value in filling._asdict().items():
        if value and _FLAGS[flag] != what:
            raise UsageProblem(f"--{flag.replace('_', '-')} is for `export {_FLAGS[flag]}`, not for `export {what}`")
    if filling.runbook_url and not _URL.fullmatch(filling.runbook_url):
        raise UsageProblem(
            f"--runbook-url {filling.runbook_url!r}: not a URL; write it as https://wiki.example.net/wireguard or "
            "https://wiki.example.net/wireguard/ALERT.html, without spaces, quotes and braces"
        )


def _texts(what: str, filling: _Filling, directory: str) -> dict[str, str]:
    """What is written: the text of each file, by its path below DIR. Raises MissingError."""
    from wg_exporter import shipped

    if what == "rules":
        return {Path(shipped.RULES).name: _rules(shipped.read(shipped.RULES), filling)}
    if what == "alertmanager":
        return {Path(shipped.ALERTMANAGER).name: shipped.read(shipped.ALERTMANAGER)}
    if what == "prometheus":
        return {Path(name).name: shipped.read(name) for name in shipped.PROMETHEUS}
    if what == "docs":
        return _docs()
    found = {Path(name).name: _dashboard(shipped.read(name), filling) for name in shipped.DASHBOARDS}
    where = json.dumps(str(Path(directory).absolute()), ensure_ascii=False)
    provisioning = shipped.read(shipped.PROVISIONING)
    found[Path(shipped.PROVISIONING).name] = _PROVISIONED.sub(lambda match: match[1] + where, provisioning)
    return found


def _rules(text: str, filling: _Filling) -> str:
    if filling.scheme:
        text = re.sub(r"http(?=://\{\{)|(?<=\}\})http(?=://)", filling.scheme, text)
    if filling.runbook_url:
        base = filling.runbook_url if "ALERT" in filling.runbook_url else f"{filling.runbook_url.rstrip('/')}/ALERT"
        text = _RUNBOOK.sub(lambda match: match[1] + json.dumps(base.replace("ALERT", match[2])), text)
    return text


def _dashboard(text: str, filling: _Filling) -> str:
    if not (filling.datasource or filling.job):
        return text
    page = json.loads(text)
    for variable in page["templating"]["list"]:
        if variable["name"] == "datasource" and filling.datasource:
            # Grafana looks for a uid that is the value, and then for a name that is the text.
            variable["current"] = {"selected": True, "text": filling.datasource, "value": filling.datasource}
        if variable["name"] == "job" and filling.job:
            variable["current"] = {"selected": True, "text": [filling.job], "value": [filling.job]}
    return json.dumps(page, indent=2, ensure_ascii=False) + "\n"


def _docs() -> dict[str, str]:
    """The pages, with links to each other; links to what is no page are text."""
    from wg_exporter import shipped
    from wg_exporter.shipped.links import relinked

    names = shipped.pages()
    found = {}
    for name in names:
        here = Path(name).parent

        def place(target: str, here: Path = here) -> str:
            return os.path.relpath(target, here) if target in names else ""

        found[str(Path(name).relative_to("docs"))] = relinked(shipped.read(name), name, place)
    return found


def _write(directory: Path, files: Mapping[str, str], *, force: bool) -> None:
    """Write all files, or none if one of them may not be replaced, or has no room. Says of each what became of it."""
    from wg_exporter.status.words import plain

    made: list[tuple[Path, Path]] = []
    try:
        there = {name: _present(directory / name, len(text.encode()) + 1) for name, text in files.items()}
        differ = [directory / name for name, text in files.items() if there[name] not in {None, text.encode()}]
        if differ and not force:
            more = f", and {len(differ) - 1} more" if len(differ) > 1 else ""
            raise click.ClickException(
                f"{plain(str(differ[0]))} is there already and differs{more}; --force replaces it"
            )
        for name, text in files.items():
            if there[name] != text.encode():
                made.append(_prepare(directory / name, text))
        while made:
            made[0][0].replace(made[0][1])
            del made[0]
        for name, text in files.items():
            with output():
                click.echo(f"{'unchanged' if there[name] == text.encode() else 'wrote'} {plain(str(directory / name))}")
    except OSError as error:
        raise click.ClickException(plain(f"{error.filename or directory}: {error.strerror}")) from None
    finally:
        for written, _path in made:
            written.unlink(missing_ok=True)


def _present(path: Path, most: int) -> bytes | None:
    """Up to `most` bytes of a file, None if there is none. Raises OSError where it is something else: a FIFO would be
    waited for, and a device never ends.
    """
    try:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    if not stat.S_ISREG(os.fstat(file).st_mode):
        os.close(file)
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    with os.fdopen(file, "rb") as opened:
        return opened.read(most)


def _prepare(path: Path, text: str) -> tuple[Path, Path]:
    """Write it beside its place, and return where it is and where it belongs: who reads the file meanwhile, such as a
    Prometheus that reloads, has the old or the new one. A link stays one; what it leads to is replaced.
    """
    path = path.resolve()
    path.parent.mkdir(parents=True, exist_ok=True)
    mask = os.umask(0)
    os.umask(mask)
    number, written = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(number, "w", encoding="utf-8") as file:
            file.write(text)
            mode = path.stat().st_mode & 0o777 if path.exists() else 0o666 & ~mask
            os.fchmod(file.fileno(), mode)
    except OSError as error:
        Path(written).unlink(missing_ok=True)
        raise OSError(error.errno, error.strerror, str(path)) from None
    except BaseException:
        Path(written).unlink(missing_ok=True)
        raise
    return Path(written), path
