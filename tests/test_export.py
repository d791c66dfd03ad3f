"""`wg-exporter export`, and the package that carries what it writes: Prometheus and others take what comes out."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from tests.promtool import ROOT, amtool, names, promtool
from wg_exporter import shipped
from wg_exporter.cli import main


def export(*arguments: str | Path):
    return CliRunner().invoke(main, ["export", *map(str, arguments)])


def written(directory: Path) -> set[str]:
    return {str(path.relative_to(directory)) for path in directory.rglob("*") if path.is_file()}


# What is written


def test_the_rules_are_written_as_they_are_shipped_and_promtool_takes_them(tmp_path):
    done = export("rules", tmp_path / "new" / "rules")
    file = tmp_path / "new" / "rules" / "wireguard.rules.yml"
    assert (done.exit_code, done.output) == (0, f"wrote {file}\n")
    assert file.read_text() == (ROOT / "alerts/wireguard.rules.yml").read_text()
    assert promtool("check", "rules", file).returncode == 0


@pytest.mark.parametrize(
    ("base", "page"),
    [
        ("https://wiki.example.net/wg/", "https://wiki.example.net/wg/%s"),
        ("https://git.example.net/docs/ALERT.md?plain=1#meaning", "https://git.example.net/docs/%s.md?plain=1#meaning"),
    ],
    ids=["below", "in place"],
)
def test_with_a_runbook_url_every_alert_leads_there(tmp_path, base, page):
    assert export("rules", tmp_path, "--runbook-url", base).exit_code == 0
    file = tmp_path / "wireguard.rules.yml"
    assert promtool("check", "rules", file).returncode == 0
    rules = [rule for group in yaml.safe_load(file.read_text())["groups"] for rule in group["rules"] if "alert" in rule]
    assert {rule["alert"] for rule in rules} == set(names())
    assert [rule["annotations"]["runbook_url"] for rule in rules] == [page % rule["alert"] for rule in rules]


def test_with_https_every_link_to_an_exporter_is_one_of_https(tmp_path):
    assert export("rules", tmp_path, "--scheme", "https").exit_code == 0
    text = (tmp_path / "wireguard.rules.yml").read_text()
    assert "http://" not in text
    assert text.count("https://") == shipped.read(shipped.RULES).count("http://")
    assert promtool("check", "rules", tmp_path / "wireguard.rules.yml").returncode == 0


def test_dashboards_come_with_the_data_source_and_the_job_that_are_chosen_at_first(tmp_path):
    done = export("dashboards", tmp_path, "--datasource", "Mimir", "--job", "vpn")
    assert done.exit_code == 0
    assert written(tmp_path) == {"fleet.json", "host.json", "peer.json", "provisioning.example.yml"}
    for name in ("fleet", "host", "peer"):
        page = json.loads((tmp_path / f"{name}.json").read_text())
        chosen = {variable["name"]: variable.pop("current") for variable in page["templating"]["list"]}
        assert chosen["datasource"] == {"selected": True, "text": "Mimir", "value": "Mimir"}
        assert chosen["job"] == {"selected": True, "text": ["vpn"], "value": ["vpn"]}
        # Nothing else is changed.
        shown = json.loads((ROOT / f"dashboards/{name}.json").read_text())
        before = {variable["name"]: variable.pop("current") for variable in shown["templating"]["list"]}
        assert page == shown
        assert {name for name, one in chosen.items() if one != before[name]} == {"datasource", "job"}


def test_dashboards_are_provisioned_from_where_they_were_written(tmp_path):
    directory = tmp_path / 'a "b": c'
    export("dashboards", directory)
    [provider] = yaml.safe_load((directory / "provisioning.example.yml").read_text())["providers"]
    assert provider["options"]["path"] == str(directory)
    for name in shipped.DASHBOARDS:
        assert (directory / Path(name).name).read_text() == (ROOT / name).read_text()


def test_the_example_of_an_alertmanager_is_one_that_amtool_takes(tmp_path):
    assert export("alertmanager", tmp_path).exit_code == 0
    done = amtool("check-config", tmp_path / "alertmanager.example.yml")
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_docs_are_written_with_links_to_each_other_and_no_others(tmp_path):
    assert export("docs", tmp_path).exit_code == 0
    assert {f"alerts/{name}.md" for name in names()} <= written(tmp_path)
    for page in tmp_path.rglob("*.md"):
        for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
            if not link.startswith(("http", "#")):
                assert (page.parent / link.partition("#")[0]).is_file(), (page.name, link)


def test_the_files_for_prometheus_are_written_with_the_rules_for_silence(tmp_path):
    assert export("prometheus", tmp_path).exit_code == 0
    assert written(tmp_path) == {path.name for path in (ROOT / "deploy/prometheus").iterdir()}
    for name in written(tmp_path):
        assert (tmp_path / name).read_text() == (ROOT / "deploy/prometheus" / name).read_text()
    assert promtool("check", "rules", tmp_path / "silent.rules.yml").returncode == 0


@pytest.mark.parametrize("what", ["rules", "alertmanager"])
def test_one_file_can_go_to_standard_output(what):
    done = export(what, "-")
    assert (done.exit_code, done.output) == (0, shipped.read({"rules": shipped.RULES}.get(what, shipped.ALERTMANAGER)))


# What is there already


def test_what_is_the_same_is_left_alone_and_what_differs_is_replaced_only_by_force(tmp_path):
    assert export("dashboards", tmp_path).exit_code == 0
    mine = tmp_path / "host.json"
    mine.write_text("mine")
    (tmp_path / "fleet.json").unlink()
    done = export("dashboards", tmp_path)
    assert (done.exit_code, done.output) == (
        1,
        f"Error: {mine} is there already and differs; --force replaces it\n",
    )
    assert mine.read_text() == "mine"
    assert not (tmp_path / "fleet.json").exists(), "none was written"
    done = export("dashboards", "--force", tmp_path)
    assert done.exit_code == 0
    assert [line.split()[0] for line in done.output.splitlines()] == ["wrote", "wrote", "unchanged", "unchanged"]
    assert mine.read_text() == shipped.read("dashboards/host.json")


def test_a_link_stays_one_and_a_file_keeps_its_mode(tmp_path):
    real = tmp_path / "real.yml"
    real.write_text("old")
    real.chmod(0o640)
    link = tmp_path / "wireguard.rules.yml"
    link.symlink_to(real)
    assert export("rules", tmp_path, "--force").exit_code == 0
    assert link.is_symlink()
    assert real.read_text() == shipped.read(shipped.RULES)
    assert real.stat().st_mode & 0o777 == 0o640
    assert written(tmp_path) == {"real.yml", "wireguard.rules.yml"}


def test_a_new_file_is_readable_as_the_umask_says(tmp_path):
    export("rules", tmp_path)
    assert (tmp_path / "wireguard.rules.yml").stat().st_mode & 0o777 == 0o644


# Mistakes


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["dashboards", "--scheme", "https"], "--scheme is for `export rules`, not for `export dashboards`"),
        (["rules", "--job", "x"], "--job is for `export dashboards`, not for `export rules`"),
        (["rules", "--runbook-url", "wiki/x"], "--runbook-url 'wiki/x': not a URL; write it as https://"),
        (["rules", "--runbook-url", "https://x/{{ $labels.a }}"], "without spaces, quotes and braces"),
        (["rules", "out.yml"], "out.yml looks like a file; give the directory that takes it"),
        (["docs", "-"], "files can't go to standard output; give a directory"),
    ],
    ids=["scheme", "job", "no URL", "braces", "a file", "many files"],
)
def test_a_mistake_is_one_line_and_exit_code_2(arguments, problem):
    done = export(*arguments)
    assert done.exit_code == 2
    assert problem in done.output
    assert done.output.count("\n") == 1


def test_what_can_not_be_written_is_one_line_and_exit_code_1(tmp_path):
    (tmp_path / "file").write_text("")
    done = export("rules", tmp_path / "file")
    assert done.exit_code == 1
    assert done.output == f"Error: {tmp_path / 'file' / 'wireguard.rules.yml'}: Not a directory\n"


@pytest.mark.parametrize("force", [(), ("--force",)], ids=["", "forced"])
@pytest.mark.parametrize("kind", ["fifo", "zero", "directory"])
def test_what_is_no_file_is_told_and_not_waited_for(tmp_path, kind, force):
    path = tmp_path / "wireguard.rules.yml"
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "zero":
        path.symlink_to("/dev/zero")
    else:
        path.mkdir()
    done = export("rules", tmp_path, *force)
    assert (done.exit_code, done.output) == (1, f"Error: {path}: not a regular file\n")


def test_a_full_disk_leaves_no_part(tmp_path):
    """Of several files all are there, or none."""
    room = max(len(shipped.read(name).encode()) for name in shipped.DASHBOARDS) - 1
    command = [sys.executable, "-m", "wg_exporter.cli", "export", "dashboards", str(tmp_path / "out")]
    code = f"""if 1:
        import resource, signal, runpy, sys
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, ({room}, {room}))
        sys.argv = {command[2:]!r}
        runpy.run_module("wg_exporter.cli", run_name="__main__")
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1, done
    assert done.stderr.count("\n") == 1
    assert "File too large" in done.stderr
    assert not list((tmp_path / "out").iterdir())


def test_what_a_directory_is_called_reaches_the_terminal_plain(tmp_path):
    for _ in range(2):
        done = export("rules", tmp_path / "a\x1b[31m\x07b")
        assert done.exit_code == 0
        assert not re.search(r"[\x00-\x09\x0b-\x1f]", done.output)


def test_an_output_that_is_closed_is_an_error():
    program = f"exec {sys.executable} -m wg_exporter.cli export rules - >&-"
    done = subprocess.run(["sh", "-c", program], stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, "Error: cannot write to standard output: it is closed\n")


def test_an_installation_that_lacks_the_files_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(shipped, "ROOT", tmp_path)
    for what in ("rules", "docs"):
        done = export(what, tmp_path / "out")
        assert done.exit_code == 1
        assert "install wg-exporter again" in done.output
        assert done.output.count("\n") == 1


# The package


@pytest.fixture(scope="module")
def checkout(tmp_path_factory) -> Path:
    """The checkout as git has it, with what is not committed yet. A build writes into it."""
    copy = tmp_path_factory.mktemp("checkout")
    listed = subprocess.run(
        ["git", "-c", "safe.directory=*", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    for name in filter(None, listed.split("\0")):
        if name.startswith(("wg_exporter/", "alerts/", "dashboards/", "deploy/", "docs/")) or "/" not in name:
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            if (ROOT / name).exists():
                shutil.copy2(ROOT / name, copy / name, follow_symlinks=False)
    return copy


def build(source: Path, what: str) -> Path:
    """What the build backend makes of the sources: `build_wheel`, `build_sdist` or `build_editable`."""
    code = f"import setuptools.build_meta as build; print(build.{what}({str(source / 'dist')!r}))"
    done = subprocess.run([sys.executable, "-c", code], cwd=source, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return source / "dist" / done.stdout.splitlines()[-1]


@pytest.fixture(scope="module")
def sdist(checkout) -> Path:
    return build(checkout, "build_sdist")


@pytest.fixture(scope="module")
def unpacked(sdist, tmp_path_factory) -> Path:
    directory = tmp_path_factory.mktemp("sdist")
    subprocess.run(["tar", "-xzf", sdist, "-C", directory], check=True)
    [source] = directory.iterdir()
    return source


def carried() -> set[str]:
    return {f"wg_exporter/shipped/{name}" for name in (*shipped.pages(), *shipped.FILES)}


def test_a_wheel_carries_all_files_and_no_others(checkout):
    with zipfile.ZipFile(build(checkout, "build_wheel")) as wheel:
        found = {name for name in wheel.namelist() if name.startswith("wg_exporter/shipped/")}
        assert found == carried() | {f"wg_exporter/shipped/{name}.py" for name in ("__init__", "links")}
        for name in carried():
            assert wheel.read(name) == (ROOT / name.removeprefix("wg_exporter/shipped/")).read_bytes()


def test_a_wheel_that_is_built_from_an_sdist_has_them_too_and_exports_them(unpacked, tmp_path):
    assert not any(path.is_symlink() for path in unpacked.rglob("*"))
    with zipfile.ZipFile(build(unpacked, "build_wheel")) as wheel:
        wheel.extractall(tmp_path / "site")
    done = run_installed({"PYTHONPATH": str(tmp_path / "site")}, tmp_path / "out")
    assert done == str(tmp_path / "site" / "wg_exporter" / "shipped")
    assert (tmp_path / "out" / "wireguard.rules.yml").read_text() == shipped.read(shipped.RULES)


def run_installed(env: dict[str, str], out: Path, prepare: str = "") -> str:
    """Export the rules by a program that is found in this environment; where its files are."""
    code = (
        f"{prepare}\nfrom wg_exporter import cli, shipped\nprint(shipped.ROOT, flush=True)\n"
        f"cli.main(['export', 'rules', {str(out)!r}])"
    )
    environment = {**os.environ, **env, "PYTHONSAFEPATH": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, cwd="/", capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[0]


def test_an_editable_install_has_the_files_of_the_checkout(checkout, tmp_path):
    with zipfile.ZipFile(build(checkout, "build_editable")) as wheel:
        wheel.extractall(tmp_path / "site")
    # In front of the editable install that the tests themselves run in.
    place = str(tmp_path / "site")
    prepare = (
        f"import site, sys\nown = sys.meta_path[:]\nsys.path.insert(0, {place!r})\n"
        "for name in [name for name in sys.modules if name.startswith('__editable__')]: del sys.modules[name]\n"
        f"site.addsitedir({place!r})\nsys.meta_path[:] = [one for one in sys.meta_path if one not in own] + own"
    )
    assert run_installed({}, tmp_path / "out", prepare) == str(checkout / "wg_exporter" / "shipped")
    assert (tmp_path / "out" / "wireguard.rules.yml").read_text() == shipped.read(shipped.RULES)
    (checkout / "alerts" / "wireguard.rules.yml").write_text("changed")
    run_installed({}, tmp_path / "later", prepare)
    assert (tmp_path / "later" / "wireguard.rules.yml").read_text() == "changed"
    shutil.copy2(ROOT / "alerts/wireguard.rules.yml", checkout / "alerts/wireguard.rules.yml")


def test_the_debian_package_has_the_files_for_prometheus_and_docs_without_dead_links():
    debian = ROOT / "deploy/debian"
    assert "prometheus" in (debian / "wg-exporter.examples").read_text().split()
    build = (debian / "build").read_text()
    assert 'wg-exporter" export docs "$tree/docs"' in build
    assert '"$root/deploy/prometheus"' in build


def test_git_has_each_file_once():
    for name in ("alerts", "dashboards", "deploy", "docs"):
        link = ROOT / "wg_exporter" / "shipped" / name
        assert link.readlink() == Path("../..") / name
