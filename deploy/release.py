"""Check all that a release needs, and build its files into dist/. It never tags, never pushes, never uploads.

    deploy/release.py prepare     # CHANGELOG.md: [Unreleased] becomes this version, of today
    deploy/release.py check       # a line for each thing that is missing; exit code 1 if there is one
    deploy/release.py build       # the same, then lint, tests, and all files with SHA256SUMS: `make release`

WITHOUT_TESTS=1 leaves out the tests, for those who ran them on this commit already; it says so.
"""

from __future__ import annotations

import datetime
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
HEADING = re.compile(r"^## \[(.+?)\](?: - (\S+))?$", re.MULTILINE)
UNRELEASED = re.compile(r"^## \[Unreleased\]\n(?:\nBecomes .*\n)?", re.MULTILINE)
NUMBER = r"(0|[1-9]\d*)"
WITHOUT_TESTS = "WITHOUT_TESTS"


def missing(root: Path) -> list[str]:
    """A line for each thing that keeps this checkout from being released."""
    version = version_of(root)
    return [
        *_tree(root, version),
        *([] if re.fullmatch(rf"{NUMBER}\.{NUMBER}\.{NUMBER}", version) else [f"version {version} is not like 1.2.3"]),
        *_changelog(root, version),
        *lock_problems((root / "pyproject.toml").read_text(), (root / "deploy/requirements.lock").read_text()),
    ]


def version_of(root: Path) -> str:
    """The version, as the source says it. Raises LookupError."""
    found = re.search(r'^__version__ = "(.+)"$', (root / "wg_exporter/__init__.py").read_text(), re.MULTILINE)
    if not found:
        raise LookupError("wg_exporter/__init__.py has no __version__")
    return found[1]


def prepared(changelog: str, version: str, day: datetime.date) -> str:
    """The changelog whose unreleased changes are those of this version. Raises LookupError where there are none."""
    text, count = UNRELEASED.subn(f"## [{version}] - {day}\n", changelog, count=1)
    if not count:
        raise LookupError("CHANGELOG.md has no heading [Unreleased]")
    return text


def lock_problems(pyproject: str, lock: str) -> list[str]:
    """Where the lock file is not what pyproject.toml asks for: a line for each, without asking a network.

    Whether the libraries of libraries fit too is known to pip alone, which is asked when a package is built.
    """
    problems = []
    locked: dict[str, str] = {}
    for entry in re.split(r"\n(?=[a-z])", re.sub(r"^#.*\n", "", lock, flags=re.MULTILINE)):
        name, _, version = entry.partition(" ")[0].partition("==")
        locked[canonicalize_name(name)] = version.strip()
        if "--hash=sha256:" not in entry:
            problems.append(f"deploy/requirements.lock has no hash for {name}: run `make lock`")
    for line in tomllib.loads(pyproject)["project"]["dependencies"]:
        wanted = Requirement(line)
        found = locked.get(canonicalize_name(wanted.name))
        if found is None:
            problems.append(f"deploy/requirements.lock lacks {wanted.name}: run `make lock LOCK_ARGS=`")
        elif found not in wanted.specifier:
            problems.append(
                f"deploy/requirements.lock has {wanted.name} {found}, not {wanted.specifier}: run `make lock`"
            )
    return problems


def _tree(root: Path, version: str) -> list[str]:
    problems = []
    changed = _git(root, "status", "--porcelain").splitlines()
    if changed:
        problems.append(f"not committed: {changed[0][3:]}" + (f" and {len(changed) - 1} more" if changed[1:] else ""))
    tagged = _git(root, "tag", "--list", f"v{version}")
    if tagged and _git(root, "rev-list", "-1", f"v{version}") != _git(root, "rev-parse", "HEAD"):
        problems.append(f"the tag v{version} is another commit: raise __version__ in wg_exporter/__init__.py")
    return problems


def _changelog(root: Path, version: str) -> list[str]:
    found = HEADING.search((root / "CHANGELOG.md").read_text())
    if not found:
        return ["CHANGELOG.md has no heading like ## [1.2.3] - 2026-01-31"]
    if found[1] == "Unreleased":
        step = ".venv/bin/python deploy/release.py prepare"
        return [f"CHANGELOG.md begins with [Unreleased]: run `{step}`, look at it and commit"]
    problems = []
    if found[1] != version:
        problems.append(f"CHANGELOG.md begins with {found[1]}, wg_exporter/__init__.py says {version}")
    try:
        datetime.date.fromisoformat(found[2] or "")
    except ValueError:
        problems.append(f"CHANGELOG.md has no date for {found[1]}: ## [{found[1]}] - YEAR-MONTH-DAY")
    return problems


def build(root: Path) -> list[str]:
    """Lint, test, build and sum up. A line for what failed; nothing is built where something before it did."""
    steps = ["lint", "test", "deb"]
    if os.environ.get(WITHOUT_TESTS):
        steps.remove("test")
        print(f"!!! {WITHOUT_TESTS} is set: THE TESTS DID NOT RUN. Release only a commit that passed them. !!!")
    shutil.rmtree(root / "dist", ignore_errors=True)  # files of another version must not get into the sums
    for step in steps:
        if subprocess.run(["make", step], cwd=root, check=False).returncode:
            return [f"`make {step}` failed, see above"]
    print(sums(root / "dist"), end="")
    print(f"\nTo release this commit: git tag -s v{version_of(root)}, and publish what is in dist/.")
    return []


def sums(directory: Path) -> str:
    """Write SHA256SUMS of all files in a directory, as `sha256sum --check` reads it; its text."""
    files = sorted(path for path in directory.iterdir() if path.is_file() and path.name != "SHA256SUMS")
    text = "".join(f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in files)
    (directory / "SHA256SUMS").write_text(text)
    return text


def _git(root: Path, *arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=root, check=True, capture_output=True, text=True).stdout.rstrip("\n")


def main(arguments: list[str]) -> int:
    """Do what is asked; the exit code."""
    if arguments == ["prepare"]:
        page = ROOT / "CHANGELOG.md"
        page.write_text(prepared(page.read_text(), version_of(ROOT), datetime.datetime.now(datetime.UTC).date()))
        return 0
    if arguments not in (["check"], ["build"]):
        print("usage: deploy/release.py prepare|check|build", file=sys.stderr)
        return 2
    problems = missing(ROOT)
    if not problems and arguments == ["build"]:
        problems = build(ROOT)
    for problem in problems:
        print(f"release: {problem}", file=sys.stderr)
    return int(bool(problems))


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except LookupError as error:
        sys.exit(f"release: {error}")
