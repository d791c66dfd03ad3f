"""The page at `/` in a real browser, over a host that is made up: words, order, filters, age, and nothing smuggled in.

The server is real, and so are its headers. With a real exporter it is tested in test_page_live.py.
"""

from __future__ import annotations

import re
import time
from itertools import zip_longest
from typing import TYPE_CHECKING

import pytest

from tests import hosts
from tests.browser import chromium, opened
from tests.hosts import device, failed, gone, host, outcome, peer
from tests.serving import App, running
from wg_exporter.causes.cause import Cause, Confidence, Finding
from wg_exporter.drift.kinds import Drift
from wg_exporter.drift.kinds import Kind as Difference
from wg_exporter.events import Kind, Level, event
from wg_exporter.health.quality import Window
from wg_exporter.health.states import NOT_JUDGED, PeerHealth, Reason, State
from wg_exporter.history.round_trips import Line
from wg_exporter.hostnames import EndpointName, LookupFailure
from wg_exporter.model import SOME_TIME
from wg_exporter.plan.planner import Aim
from wg_exporter.probed import FastFound, MtuReport, Verdict
from wg_exporter.quiet import Quiet
from wg_exporter.status.document import document, encode
from wg_exporter.status.rows import Echoes, Teller

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser, Page

    from tests.serving import Running
    from wg_exporter.events import Event
    from wg_exporter.status.rows import Overview

NAMES = "#peers .peer b"
WHY = Finding(
    Cause.LOSSY, Confidence.LIKELY, ("a", "b"), ((Cause.MTU, "c"),), (Cause.SLOW, Cause.MTU), ("`d` <e>", "f"), "g"
)
HOSTILE = ("<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "`</code><b>`", "a\u202eb\x1b[2J")


class Host(App):
    """Serves an overview as page and as document."""

    def __init__(self, overview: Overview) -> None:
        super().__init__()
        self.overview = overview

    def last(self):
        return document(self.overview)

    def document(self, *, private, round_trips):
        return [encode(self.overview)]


def night(now: float | None = None) -> Overview:
    """A hub on a bad night, of which everything that the page can say is true. `hosts.NOW` is `now`."""
    now = hosts.NOW if now is None else now
    day = 86_400

    def row(name, key, state, reason=None, age=None, ago=2 * day, **more):
        health = PeerHealth(state, reason, changed_at=now - ago if ago else 0.0, reason_at=now - day, evidence="seen")
        found = peer(
            name, key=key, age=age, health=health if state else NOT_JUDGED, expected=more.pop("expected", True)
        )
        seen = found.peer._replace(last_handshake_ns=0 if age is None else int((now - age) * 1e9))
        return found._replace(peer=seen, **more)

    def probed(rtt, loss=0.0, dead=0):
        means = [None] * 3 + [rtt + n / 9000 for n in range(37 - dead)] + [None] * dead
        window = None if dead else Window(loss, rtt)
        return {"echoes": Echoes(True, 99, 3, 1), "window": window, "line": Line(now, means, [0] * 30 + [1] * 10)}

    fine = MtuReport(Verdict.OK, 1420, 1420, 1500, 0, 1480, 1420, None, "", now)
    bad = MtuReport(Verdict.FRAGMENTED_PATH, 1420, 1420, 1400, 0, 1480, 1340, None, "192.0.2.1", now)
    small = bad._replace(verdict=Verdict.REMOTE_SMALLER)
    moved = EndpointName("lyon.example.org:51820", ("192.0.2.9:51820",), now, mismatch=True, resolved=True)
    lost = EndpointName("gone.example.org:51820", failure=LookupFailure.NOT_FOUND, resolved=False)
    rows = [
        row("berlin", "A", State.UP, age=3 * day, mtu=fine, **probed(0.0123)),
        row("lyon", "B", State.DOWN, Reason.HANDSHAKE_UNANSWERED, age=4 * day, host_name=moved, **probed(0.03, dead=9)),
        row("paris", "C", State.DEGRADED, Reason.MTU_FRAGMENTED_PATH, age=5 * day, mtu=bad, **probed(0.134, 0.031)),
        row("oslo", "D", State.DEGRADED, Reason.SLOW, age=3 * day, ago=0, mtu=small, cause=WHY, **probed(1.234, 0.25)),
        row("anna", "E", State.IDLE, age=9 * day, expected=False),
        row("phone", "F", State.NEVER, expected=False),
        row("backup-10", "G", State.IDLE, age=2 * day, host_name=lost),
        row("backup-9", "H", State.IDLE, age=2 * day, aim=Aim("", "none", "no address is known", wanted=True)),
        row("new", "I", None),
    ]
    rows[4] = rows[4]._replace(peer=rows[4].peer._replace(last_handshake_ns=SOME_TIME, endpoint="[2001:db8::1]:7"))
    first = device(*rows[:-1])
    first = first._replace(peers=(*first.peers, rows[-1]))
    return host(
        first,
        device(name="wg1", netns="blue", up=False),
        device(peer("x", key="X", age=3 * day, health=PeerHealth(State.UP)), name="wg2", fresh=False),
        failed("its daemon hung up"),
        gone(row("lost", "K", State.DOWN, Reason.INTERFACE_GONE)),
        wall=now,
        outcomes=[outcome("Operation not permitted")],
        problems=("names.yml: no such file; remove it from `names`", "wg7 is gone"),
    )._replace(teller=Teller("1.2.3", "gw-hamburg", "", now - 3600))


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture
def served() -> Iterator[Running]:
    with running(Host(night(time.time()))) as server:
        yield server


def url(served: Running) -> str:
    return f"http://127.0.0.1:{served.port}/"


@pytest.fixture
def page(browser: Browser, served: Running) -> Iterator[Page]:
    with opened(browser, url(served)) as page:
        page.wait_for_selector("#search:not([hidden])")
        yield page


def texts(page: Page, selector: str) -> list[str]:
    return page.locator(selector).all_inner_texts()


def row(page: Page, name: str) -> str:
    """All that the row of a peer says, and what stands below it."""
    return " ".join(page.locator("#peers tbody", has=page.locator(f".peer b:text-is('{name}')")).inner_text().split())


# --- words -----------------------------------------------------------------------------------------------------------


def contents(page: Page) -> dict[str, object]:
    """The page's words, and the paths of its lines, without times that pass."""
    found = page.evaluate(
        """() => Object.fromEntries(["headline", "problems", "tiles", "peers", "devices", "host", "events"].map(
            (id) => [id, [...document.getElementById(id).querySelectorAll("*"), document.getElementById(id)]
              .filter((node) => node.tagName !== "BUTTON" || node.className.startsWith("tile"))
              .map((node) => [node.tagName, node.className.baseVal ?? node.className, node.getAttribute("d"), node.open,
                              node.textContent])]))"""
    )
    texts = {name: re.sub(r"\\n|\s", "", str(value)) for name, value in found.items()}
    return {name: re.sub(r"[0-9]+seconds?ago|justnow", "now", text) for name, text in texts.items()}


def test_with_and_without_the_script_the_page_is_the_same(browser, served):
    with opened(browser, url(served), java_script_enabled=False) as page:
        without = contents(page)
    with opened(browser, url(served)) as page:
        page.wait_for_selector("#search:not([hidden])")
        found = contents(page)
    for name, value in without.items():
        assert found[name] == value, name
    assert "fragmented_path,set1340" in found["peers"]


def happened(name: str, level: Level = Level.WARN) -> Event:
    return event(
        Kind.STATE, time.time(), ("", "wg0"), level=level, public_key="A" * 43 + "=", name=name, before="up",
        after="down", reason="one_way", evidence="3 initiations came from it",
    )  # fmt: skip


def test_what_happened_is_told_alike_with_and_without_the_script_the_latest_first_whatever_it_is_called(browser):
    app = Host(night(time.time()))
    for name in HOSTILE:
        app.journal.add([happened(name, Level.INFO)])
    app.journal.add([happened("lyon"), event(Kind.RELOAD, time.time(), level=Level.ERROR, after="failure")])
    with running(app) as server:
        with opened(browser, url(server), java_script_enabled=False) as page:
            without = contents(page)["events"]
            lines = texts(page, "#events li")
        with opened(browser, url(server)) as page:
            page.wait_for_selector("#search:not([hidden])")
            assert contents(page)["events"] == without
            assert texts(page, "#events li") == lines
            assert page.locator("#events script, #events img").count() == 0
    assert lines[0].endswith("configuration not reloaded")
    assert "lyon on wg0: down (was up): one_way: 3 initiations came from it" in lines[1]
    assert re.match(r"20\d\d-\d\d-\d\d \d\d:\d\d:\d\d UTC ", lines[1])
    assert len(lines) == 2 + len(HOSTILE)
    assert [f"'LI','{kind}'" in without for kind in ("bad", "odd", "dull")] == [True] * 3


def test_what_happens_while_the_page_is_open_appears_by_itself(browser):
    app = Host(night(time.time()))
    with running(app) as server, opened(browser, url(server)) as page:
        page.wait_for_selector("#search:not([hidden])")
        assert texts(page, "#events li") == []
        server.happen(*(happened(f"peer {n}") for n in range(19)))
        server.happen(happened("the last"), happened("the very last"))
        page.wait_for_selector("#events li", timeout=15_000)
        lines = texts(page, "#events li")
        assert len(lines) == 20
        assert "the very last" in lines[0]
        assert "peer 1 " in lines[-1]


def test_peers_of_one_name_have_their_keys_and_no_port_breaks_over_two_lines(browser):
    now = time.time()
    found = night(now)
    first, *others = found.devices
    rows = [
        one._replace(name="berlin", peer=one.peer._replace(endpoint="198.51.100.200:51820")) for one in first.peers[:2]
    ]
    first = first._replace(peers=(*rows, *first.peers[2:]))
    with running(Host(found._replace(devices=(first, *others)))) as server:
        with opened(browser, url(server), java_script_enabled=False) as page:
            without = contents(page)
        with opened(browser, url(server)) as page:
            page.wait_for_selector("#search:not([hidden])")
            assert contents(page) == without
            page.set_viewport_size({"width": 1100, "height": 800})
            places = page.locator(".peer small", has_text="key ")
            assert sorted(places.all_inner_texts()) == [
                f"wg0, 198.51.100.200:51820, key {letter * 8}" for letter in "AB"
            ]
            lines = "(node) => { const all = document.createRange(); all.selectNodeContents(node);"
            lines += " return new Set([...all.getClientRects()].map((one) => one.top)).size }"
            assert [place.evaluate(lines) for place in places.all()] == [1, 1]


def test_who_is_quiet_is_told_alike_with_and_without_the_script(browser):
    """Of a peer, of a healthy one, of an interface and of one that is gone."""
    now = time.time()
    found = night(now)
    quiet = Quiet("", "wg0", "", "", now - 60, now + 3600, "<b>new router</b>")
    first, *others = found.devices
    peers = [peer._replace(quiet=quiet if n in {0, 1, 3, 8} else None) for n, peer in enumerate(first.peers)]
    lost = others[-1]._replace(quiet=quiet, peers=tuple(peer._replace(quiet=quiet) for peer in others[-1].peers))
    drift = Drift("/x.conf", ((Difference.PEER_EXTRA, 1000), (Difference.MTU, 1)))
    devices = (first._replace(peers=tuple(peers), quiet=quiet, drift=drift), *others[:-1], lost)
    with running(Host(found._replace(devices=devices))) as server:
        with opened(browser, url(server), java_script_enabled=False) as page:
            without, names = contents(page), texts(page, NAMES)
        with opened(browser, url(server)) as page:
            page.wait_for_selector("#search:not([hidden])")
            assert contents(page) == without
            assert texts(page, NAMES) == names
            assert (
                page.locator("#headline").inner_text().endswith("1 degraded; 2 idle or dead; 1 not judged yet; 5 quiet")
            )
            assert page.locator("#headline").get_attribute("class") == "odd"
            assert "<b>new router</b>" in row(page, "lyon")
            page.locator("#text").fill("quiet")
            assert sorted(texts(page, NAMES)) == ["berlin", "lost", "lyon", "new", "oslo"]


def test_how_peers_are_by_fast_echoes_is_told_alike_with_and_without_the_script(browser):
    found = night(time.time())
    first, *others = found.devices
    fast = (
        FastFound("10.8.0.2", True),
        FastFound("10.8.0.3", False),
        FastFound("", False, "<b>it has no endpoint</b>"),
        FastFound("", None, "no target; give it a `target`"),
    )
    peers = [peer._replace(fast=one) for peer, one in zip_longest(first.peers, fast)]
    with running(Host(found._replace(devices=(first._replace(peers=tuple(peers)), *others)))) as server:
        with opened(browser, url(server), java_script_enabled=False) as page:
            without, names = contents(page), texts(page, NAMES)
        with opened(browser, url(server)) as page:
            page.wait_for_selector("#search:not([hidden])")
            assert contents(page) == without
            assert texts(page, NAMES) == names
            bodies = [
                page.locator("#peers tbody", has=page.locator(f".peer b:text-is('{peer.name}')")) for peer in peers
            ]
            said = [body.text_content() for body in bodies[:4]]
            assert ["down by fast echoes" in text for text in said] == [False, True, True, False]
            lines = [f"fast echoes: {one.why}".replace("`", "") in text for one, text in zip(fast, said, strict=True)]
            assert lines == [False, False, True, True]
            page.locator("#text").fill("by fast echoes")
            assert sorted(texts(page, NAMES)) == sorted(peer.name for peer in peers[1:3])


def test_without_the_script_it_is_a_plain_table_that_asks_for_itself_again(browser, served):
    with opened(browser, url(served), java_script_enabled=False) as page:
        assert texts(page, NAMES)[:2] == ["lost", "lyon"]
        assert not page.locator("#search").is_visible()
        assert all(page.locator(".tile").nth(n).is_disabled() for n in range(6))
        assert "wg-exporter show wg0 lyon" in row(page, "lyon")
        assert page.locator('noscript meta[http-equiv="refresh"]').count() == 1
        assert "as of 20" in page.locator("#as-of").inner_text()


def test_the_script_draws_every_peer_in_words(page):
    assert page.locator("#headline").inner_text() == ("3 of 8 up; 2 down; 2 degraded; 2 idle or dead; 1 not judged yet")
    assert page.title() == "gw-hamburg: 2 down - wg-exporter"
    assert row(page, "paris").startswith(
        "degraded 2 days ago paris wg0 mtu_fragmented_path 5 days ago 134 ms 3.1% fragmented_path, set 1340 since 20"
    )
    assert "set 1340: ip link set dev wg0 mtu 1340" in row(page, "paris")
    assert row(page, "oslo").endswith("set 1340: ip link set dev wg0 mtu 1340")
    assert "can't be probed: no address is known" in page.locator("#peers").text_content()
    assert row(page, "anna") == "idle 2 days ago anna wg0, [2001:db8::1]:7 not known when - - -"
    assert row(page, "phone") == "never 2 days ago phone wg0 never connected - - -"
    assert row(page, "new").startswith("not known new wg0 never connected - - -")
    assert page.locator("svg title").first.text_content().startswith("last 10 minutes: 30.0 ms to ")


# --- order and filters ----------------------------------------------------------------------------------------------


def test_the_worst_comes_first_and_a_click_on_a_heading_sorts(page):
    worst = ["lost", "lyon", "paris", "oslo", "new", "backup-9", "backup-10", "berlin", "x", "anna", "phone"]
    assert texts(page, NAMES) == worst
    orders = {
        "Round trip": (["oslo", "paris", "berlin"], ["berlin", "paris", "oslo"]),
        "Loss": (["oslo", "paris", "berlin"], ["berlin", "paris", "oslo"]),
        "Latest handshake": (["x", "paris", "lyon"], ["backup-9", "backup-10", "berlin"]),
        "Peer": (["anna", "backup-9", "backup-10"], ["x", "phone", "paris"]),
        "MTU": (["paris", "oslo", "berlin"], ["berlin", "oslo", "paris"]),
    }
    for heading, (first, second) in orders.items():
        head = page.locator("thead th", has_text=heading)
        head.get_by_role("button").click()
        assert texts(page, NAMES)[:3] == first, heading
        before = head.get_attribute("aria-sort")
        head.get_by_role("button").click()
        assert texts(page, NAMES)[:3] == second, heading
        assert {before, head.get_attribute("aria-sort")} == {"ascending", "descending"}
        assert page.locator("th[aria-sort]").count() == 1
        assert sorted(texts(page, NAMES)) == sorted(worst), "what is not known comes last, and is there"
    page.locator("thead th", has_text="State").get_by_role("button").click()
    assert texts(page, NAMES) == worst


def test_the_tiles_and_the_words_that_are_typed_choose_peers_and_the_address_remembers(browser, served, page):
    page.get_by_role("button", name="degraded").click()
    assert texts(page, NAMES) == ["paris", "oslo"]
    assert page.get_by_role("button", name="degraded").get_attribute("aria-pressed") == "true"
    assert page.locator("#shown").inner_text() == "2 of 11 peers"
    page.get_by_label("Find").fill("SLOW")
    assert texts(page, NAMES) == ["oslo"]
    with opened(browser, page.url) as again:
        again.wait_for_selector("#search:not([hidden])")
        assert texts(again, NAMES) == ["oslo"]
        assert again.get_by_label("Find").input_value() == "SLOW"
    page.get_by_label("Find").press("Enter")  # sends nothing
    page.get_by_role("button", name="degraded").click()
    for typed, found in (("2001:db8", ["anna"]), ("BBBB", ["lyon"]), ("in blue", []), ("wg7", ["lost"]), ("", 11)):
        page.get_by_label("Find").fill(typed)
        names = texts(page, NAMES)
        assert (len(names) if isinstance(found, int) else names) == found, typed


def test_what_the_reader_has_folded_chosen_and_sorted_stays_so_when_the_page_refreshes(page, served):
    details = page.locator("#peers tbody", has_text="lyon").locator("details")
    assert details.get_attribute("open") is not None
    details.locator("summary").click()
    page.get_by_role("button", name="down").click()
    at = page.locator("#as-of").inner_text().split(",")[0]
    served.app.overview = night(time.time() + 1)  # in another second than what is shown
    page.wait_for_function("(at) => !document.getElementById('as-of').innerText.startsWith(at)", arg=at, timeout=60_000)
    assert texts(page, NAMES) == ["lost", "lyon"]
    assert details.get_attribute("open") is None


# --- how old it is ---------------------------------------------------------------------------------------------------


def test_it_follows_the_host(page, served):
    peers = served.app.overview.devices[0].peers
    served.app.overview = host(
        device(*(one._replace(health=PeerHealth(State.UP, changed_at=time.time())) for one in peers)), wall=time.time()
    )._replace(teller=Teller("1.2.3", "gw-hamburg", "", time.time() - 3600))
    page.wait_for_function("() => document.getElementById('headline').className === 'good'", timeout=60_000)
    assert page.title() == "gw-hamburg: 7 of 7 up - wg-exporter"
    assert page.locator("#problems li").count() == 0
    assert "lost" not in texts(page, NAMES)


def test_when_the_refresh_fails_it_says_so_how_old_the_page_is_and_nothing_looks_fine(browser):
    well = host(device(peer("a", age=9, expected=True, health=PeerHealth(State.UP))), wall=time.time())
    complaints = ("Failed to load resource",)
    with running(Host(well)) as served, opened(browser, url(served), allowed=complaints) as page:
        page.wait_for_selector("#search:not([hidden])")
        assert page.locator("#headline").get_attribute("class") == "good"
        served.app.problem = "the reader was killed by SIGKILL"
        page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")  # asks at once
        page.wait_for_selector("#alarm:not([hidden])", timeout=60_000)
        alarm = page.locator("#alarm").inner_text()
        assert re.fullmatch(
            r"The refresh fails: 503, the reader was killed by SIGKILL\. All below is as of "
            r"[-0-9]+ [:0-9]+ UTC, (just now|[0-9]+ seconds? ago), and may be wrong\.", alarm,
        )  # fmt: skip
        assert not (old := re.search(r"([0-9]+) seconds? ago", alarm)) or int(old[1]) < 20, "one failure is enough"
        assert page.locator("#headline").get_attribute("class") == "stale"
        assert page.locator("#headline").inner_text().startswith("not known now; ")
        assert page.title() == "this host: no answer - wg-exporter"
        page.wait_for_function("(alarm) => document.getElementById('alarm').innerText !== alarm", arg=alarm)
        served.app.problem = ""
        page.wait_for_selector("#alarm[hidden]", state="attached", timeout=60_000)
        assert page.locator("#headline").get_attribute("class") == "good"


def test_a_laptop_that_slept_does_not_show_old_data_as_fresh(browser, served):
    with opened(browser, url(served)) as page:
        page.wait_for_selector("#search:not([hidden])")
        page.route("**/api/v1/status*", lambda route: None)  # no answer, and no failure yet
        page.evaluate("() => { const now = Date.now; Date.now = () => now() + 3600e3 }")
        page.wait_for_selector("#alarm:not([hidden])", timeout=60_000)
        assert ", 60 minutes ago, and may be wrong" in page.locator("#alarm").inner_text()


# --- hostile text ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("script", [True, False], ids=["script", "plain"])
def test_markup_in_anything_from_outside_is_text(browser, script):
    rows = [
        peer(bad, key=key, endpoint=bad, ips=(bad,), expected=True, age=5,
             health=PeerHealth(State.DOWN, Reason.ONE_WAY, evidence=bad))
        for bad, key in zip(HOSTILE, "ABCD", strict=True)
    ]  # fmt: skip
    overview = host(device(*rows, name=HOSTILE[0], netns=HOSTILE[1]), outcomes=[outcome(HOSTILE[1])], problems=HOSTILE)
    overview = overview._replace(teller=Teller("1", HOSTILE[0], "", 0.0), wall=time.time())
    with running(Host(overview)) as served, opened(browser, url(served), java_script_enabled=script) as page:
        if script:
            page.wait_for_selector("#search:not([hidden])")
            page.get_by_label("Find").fill("<script>")
            page.get_by_label("Find").fill("")
        assert {*HOSTILE[:3], "a\ufffdb\ufffd[2J"} == set(texts(page, NAMES))
        assert page.locator("h1").inner_text() == HOSTILE[0]
        assert page.locator("script").count() == 1
        assert page.locator("img, main b b").count() == 0
        assert page.locator("#problems li").count() == 5


def test_the_browser_refuses_scripts_styles_and_html_of_others(browser, served):
    with opened(browser, url(served), allowed=("Content Security Policy", "Trusted")) as page:
        page.wait_for_selector("#search:not([hidden])")
        page.evaluate(
            """() => { const script = document.createElement("script");
                       try { script.text = "window.owned = true"; document.body.append(script) } catch {} }"""
        )
        assert page.evaluate("window.owned") is None
        refused = "() => { try { document.body.innerHTML = '<b>x</b>'; return '' } catch (e) { return e.message } }"
        assert "TrustedHTML" in page.evaluate(refused)


# --- for everybody ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("script", [True, False], ids=["script", "plain"])
@pytest.mark.parametrize("width", [320, 375, 768, 1200])
def test_the_page_never_scrolls_sideways(browser, served, width, script):
    long = peer("x" * 120, key="L", endpoint=f"[{'2001:' * 7}db8]:51820", expected=True, health=PeerHealth(State.UP))
    found = served.app.overview
    served.app.overview = found._replace(devices=(*found.devices, device(long, name="wg" + "9" * 13, netns="n" * 60)))
    with opened(browser, url(served), java_script_enabled=script) as page:
        if script:
            page.wait_for_selector("#search:not([hidden])")
        page.set_viewport_size({"width": width, "height": 640})
        scrolled = page.locator("html").evaluate("(html) => [html.scrollWidth, html.clientWidth]")
        assert scrolled == [width, width]
        cut = page.locator("main *").evaluate_all(
            "(all, width) => all.filter((one) => one.getBoundingClientRect().right > width + 1).map((one) => one.id)",
            width,
        )
        assert cut == []


def luminance(colour: list[float]) -> float:
    """WCAG 2.1, relative luminance of sRGB from 0 to 255."""
    linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in (part / 255 for part in colour)]
    return sum(part * weight for part, weight in zip(linear, (0.2126, 0.7152, 0.0722), strict=True))


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_all_text_has_enough_contrast_by_day_and_by_night(browser, served, scheme):
    with opened(browser, url(served), color_scheme=scheme) as page:
        page.wait_for_selector("#search:not([hidden])")
        # Colours as the browser paints them, so that mixed and see-through ones count as what they become.
        found = page.evaluate(
            """() => {
              const pen = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
              const paint = (colours) => {
                pen.clearRect(0, 0, 1, 1);
                for (const one of colours) { pen.fillStyle = one; pen.fillRect(0, 0, 1, 1); }
                return [...pen.getImageData(0, 0, 1, 1).data].slice(0, 3);
              };
              return [...document.querySelectorAll("header *, main *, footer *")]
                .filter((node) => [...node.childNodes].some((one) => one.nodeType === 3 && one.data.trim()))
                .filter((node) => node.checkVisibility() && !node.closest("svg, caption"))
                .map((node) => {
                  const back = [];
                  for (let one = node; one; one = one.parentElement) {
                    back.unshift(getComputedStyle(one).backgroundColor);
                  }
                  return [node.outerHTML.slice(0, 80), paint([...back, getComputedStyle(node).color]), paint(back)];
                });
            }"""
        )
        assert len(found) > 60
        for what, text, back in found:
            dark, light = sorted((luminance(text), luminance(back)))
            assert (light + 0.05) / (dark + 0.05) >= 4.5, what
        sides = {"light": 255, "dark": 0}
        body = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert abs(int(re.findall(r"\d+", body)[0]) - sides[scheme]) < 40


def test_a_state_is_a_word_and_a_sign_and_the_table_has_headings(page):
    signs = page.locator(".state b").evaluate_all(
        "(all) => all.map((one) => getComputedStyle(one, '::before').content)"
    )
    words = texts(page, ".state b")
    assert {word: sign for word, sign in zip(words, signs, strict=True) if word in {"down", "degraded", "up"}} == {
        "down": '"\u25bc"', "degraded": '"\u25b2"', "up": '"\u25cf"',
    }  # fmt: skip
    assert page.get_by_role("columnheader").count() == 7
    assert page.get_by_role("rowheader").count() == 11
    assert page.get_by_role("table", name="Peers, worst first").count() == 1
    assert page.get_by_role("searchbox", name="Find").count() == 1


def test_a_keyboard_is_enough(page):
    page.keyboard.press("Tab")
    for _ in range(30):
        if page.evaluate("document.activeElement.value") == "down":
            break
        page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    assert texts(page, NAMES) == ["lost", "lyon"]


# --- many ------------------------------------------------------------------------------------------------------------


def many(number: int) -> Overview:
    first = night(time.time()).devices[0].peers[0]
    rows = [first._replace(name=f"site-{n}", peer=first.peer._replace(public_key=f"{n:043d}=")) for n in range(number)]
    return host(device(first)._replace(peers=tuple(rows)), wall=time.time())


def test_more_than_a_thousand_peers_open_in_a_moment(browser):
    with running(Host(many(1200))) as served, opened(browser, url(served)) as page:
        page.wait_for_selector("#search:not([hidden])")
        assert page.locator("#shown").inner_text() == "1,200 peers"
        assert page.locator("#peers tbody").count() == 1000
        # By the processor time of the page, as the machine may be busy: on an idle one it is less than a second.
        session = page.context.new_cdp_session(page)
        session.send("Performance.enable", {"timeDomain": "threadTicks"})
        page.reload()
        page.wait_for_selector("#search:not([hidden])")
        spent = {one["name"]: one["value"] for one in session.send("Performance.getMetrics")["metrics"]}["TaskDuration"]
        page.get_by_role("button", name="show all 1,200").click()
        assert page.locator("#peers tbody").count() == 1200
        page.get_by_label("Find").fill("site-77")
        assert texts(page, NAMES)[:2] == ["site-77", "site-770"]
    print(f"1,200 peers took {spent:.2f} s of the browser")
    assert spent < 5
