"""The page at `/` of a real exporter, over a real tunnel that is cut, in a real browser; and the page in the wheel."""

from __future__ import annotations

import base64
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import bcrypt
import pytest

from tests.browser import chromium, opened
from tests.lab import eventually, start_exporter, tunnel
from tests.lab.exporting import scrape

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser

ROOT = Path(__file__).parents[1]
PATIENCE = 90_000  # milliseconds


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.mark.lab
def test_a_tunnel_that_is_cut_turns_red_and_an_exporter_that_stops_is_said_to_be_silent(browser, lab, tmp_path):
    pair = tunnel(lab)
    pair.ping()
    config = (
        f"interfaces: {{include: [{pair.hub.name}]}}\nnames: [{pair.hub.conf}]\n"
        f"namespaces: [{{name: other, netns: {lab.prefix}hub}}]\nexpect: [{{state: up}}]\n"
        f'peers: [{{public_key: "{pair.spoke_keys.public}", probe: true, name: "<script>alert(1)</script>"}}]\n'
        "probe: {interval: 1s}\n"
    )
    silent = ("Failed to load resource",)  # the browser says it too
    with start_exporter(directory=tmp_path, config=config) as exporter:
        eventually(lambda: [v for _, v in scrape(exporter).all("wireguard_probe_up")] == [1], within=30)
        with opened(browser, f"{exporter.url}/", allowed=silent) as page:
            page.wait_for_function("() => document.getElementById('headline').className === 'good'", timeout=PATIENCE)
            assert page.locator("#headline").inner_text() == "1 of 1 up"
            assert page.locator("#peers .peer b").inner_text() == "<script>alert(1)</script>"
            page.wait_for_selector("#peers svg", timeout=PATIENCE)
            assert page.locator("#peers svg title").text_content().startswith("last 10 minutes: ")
            pair.hub.namespace.ip("link", "set", "to-spoke", "down")
            page.wait_for_function("() => document.getElementById('headline').className === 'bad'", timeout=PATIENCE)
            assert page.locator("#headline").inner_text() == "0 of 1 up; 1 down"
            assert page.title().endswith(": 1 down - wg-exporter")
            assert page.locator(".state b").inner_text() == "down"
            assert page.locator("#peers details").get_attribute("open") is not None
            why = "() => document.querySelector('.more').innerText.includes('no_route')"
            page.wait_for_function(why, timeout=PATIENCE)  # which the reader finds by itself
            assert exporter.stop() == 0
            page.wait_for_selector("#alarm:not([hidden])", timeout=PATIENCE)
            assert "the exporter can't be reached" in page.locator("#alarm").inner_text()
            assert page.title().endswith(": no answer - wg-exporter")
            assert page.locator("#headline").get_attribute("class") == "stale"


def test_with_a_password_the_page_its_files_and_its_refreshes_ask_for_it(browser, tmp_path):
    web = tmp_path / "web.yml"
    web.write_text("{}")
    config = 'interfaces: {include: ["no-such*"]}\nnames: []\n'
    right = {"Authorization": f"Basic {base64.b64encode(b'bob:secret').decode()}"}
    with start_exporter(f"--web.config.file={web}", "--no-privsep", directory=tmp_path, config=config) as exporter:
        web.write_text(f'basic_auth_users: {{bob: "{bcrypt.hashpw(b"secret", bcrypt.gensalt(4)).decode()}"}}\n')
        eventually(lambda: exporter.get("/").status == 401, within=30)
        files = re.findall(r'"\.(/static/[^"]+)"', exporter.get("/", right).text)
        for path in ("/", "/api/v1/status", *files):
            assert exporter.get(path).status == 401, path
            assert exporter.get(path, right).status == 200, path
        wishes = {"http_credentials": {"username": "bob", "password": "secret"}}
        with opened(browser, f"{exporter.url}/", **wishes) as open_page:
            open_page.wait_for_selector("#search:not([hidden])", timeout=PATIENCE)
            assert open_page.locator("#headline").inner_text() == "nothing here can page: no WireGuard peer was found"


def test_the_files_of_the_page_are_in_the_wheel(tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source / name)
    shutil.copytree(ROOT / "wg_exporter", source / "wg_exporter", ignore=shutil.ignore_patterns("__pycache__"))
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "--wheel-dir",
        str(tmp_path),
        str(source),
    ]
    subprocess.run(command, check=True, timeout=300)
    [wheel] = tmp_path.glob("*.whl")
    names = {name for name in zipfile.ZipFile(wheel).namelist() if name.startswith("wg_exporter/web/static/")}
    here = {f"wg_exporter/web/static/{path.name}" for path in (ROOT / "wg_exporter/web/static").iterdir()}
    assert names == here
    assert len(here) == 4
