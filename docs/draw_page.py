"""Draw docs/images/page.png: the status page at `/` in a browser, as a picture for the README.

It is a picture of real tunnels, so nothing can check that it is fresh. To draw it again, on a machine with Debian's
chromium, let the demo run for ten minutes (then the lines of round trips are whole), and in another terminal:

    .venv/bin/python docs/draw_page.py http://127.0.0.1:9586/

More arguments are the file to write, the width in pixels, and `dark`.
"""

from __future__ import annotations

import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

PICTURE = Path(__file__).resolve().parent / "images" / "page.png"
CHROMIUM = "/usr/bin/chromium"


def draw(url: str, picture: Path, width: int, scheme: str) -> None:
    """A picture of the whole page, as soon as its script has drawn it."""
    with sync_playwright() as playwright:
        # No sandbox: chromium refuses to run as root with one.
        arguments = ["--disable-gpu", "--hide-scrollbars"]
        browser = playwright.chromium.launch(executable_path=CHROMIUM, chromium_sandbox=False, args=arguments)
        page = browser.new_page(viewport={"width": width, "height": 400}, color_scheme=scheme)
        page.goto(url)
        page.wait_for_selector("#search:not([hidden])")
        page.screenshot(path=picture, full_page=True)
        browser.close()


if __name__ == "__main__":
    address, file, pixels, look = (sys.argv[1:] + ["", str(PICTURE), "1200", "light"][len(sys.argv) - 1 :])[:4]
    draw(address, Path(file), int(pixels), look)
