"""Debian's chromium, driven by playwright: help for the tests of the page at `/`.

A page that complains, in its console, by an error or by a request for something outside, fails its test at the end.
"""

from __future__ import annotations

import os
import shutil
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import sync_playwright

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser, Page

# Nothing of the browser's own may go to the network: it has no business outside of loopback.
QUIET = (
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@contextmanager
def chromium() -> Iterator[Browser]:
    """A browser with an empty profile of its own."""
    path = shutil.which("chromium")
    if path is None:
        pytest.skip("chromium: no such command; apt-get install chromium")
    with sync_playwright() as playwright:
        # chromium refuses to run as root with a sandbox.
        browser = playwright.chromium.launch(executable_path=path, chromium_sandbox=os.geteuid() != 0, args=[*QUIET])
        yield browser
        browser.close()


@contextmanager
def opened(browser: Browser, url: str, *, allowed: tuple[str, ...] = (), **wishes: object) -> Iterator[Page]:
    """A page that is open, in a context of its own made with `wishes`. `allowed` complaints contain one of these."""
    context = browser.new_context(viewport={"width": 1200, "height": 800}, **wishes)
    page = context.new_page()
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(f"{message.type}: {message.text}"))
    page.on("pageerror", lambda error: complaints.append(f"error: {error}"))
    page.on("dialog", lambda dialog: complaints.append(f"dialog: {dialog.message}"))
    origin = "/".join(url.split("/")[:3])
    page.on("request", lambda request: request.url.startswith(origin) or complaints.append(f"asked {request.url}"))
    try:
        page.goto(url)
        yield page
    finally:
        context.close()
    if found := [line for line in complaints if not any(part in line for part in allowed)]:
        raise AssertionError(f"the browser complained: {found}")
