"""Whether a peer is up, over HTTP: for load balancers and scripts, which look at the status alone."""

from __future__ import annotations

import base64
import time
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.serving import App, running
from wg_exporter.web.up import PATH as PEERS_PATH
from wg_exporter.web.up import peer_asked

KEY = base64.b64encode(bytes([251, 255]) * 16).decode()
URL_SAFE = KEY.replace("+", "-").replace("/", "_")
OTHER = base64.b64encode(bytes(32)).decode()


def app(up: bool | None, why: str = "", netns: str = "") -> App:
    found = App()
    found.fast = {(netns, "wg0", KEY): (up, why)}
    return found


def path(key: str = URL_SAFE, interface: str = "wg0") -> str:
    return f"{PEERS_PATH}{interface}/{key}/up"


@pytest.mark.parametrize(
    ("up", "why", "status", "body"),
    [
        (True, "", 200, b"up\n"),
        (False, "", 503, b"down\n"),
        (False, "it has no endpoint", 503, b"down: it has no endpoint\n"),
        (None, "nothing yet", 503, b"not known: nothing yet\n"),
    ],
)
def test_the_status_says_whether_it_is_up_and_the_line_says_why_not(up, why, status, body):
    with running(app(up, why)) as server:
        answer = server.get(path())
        head = server.get(path(), method="HEAD")
    assert (answer.status, answer.body, head.status) == (status, body, status)
    assert answer.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize("key", [URL_SAFE, URL_SAFE[:-1], quote(KEY, safe=""), quote(KEY), KEY])
def test_the_key_is_in_base64_for_urls_or_escaped_or_as_it_is(key):
    assert "/" in KEY
    assert "+" in KEY
    with running(app(up=True)) as server:
        assert server.get(path(key)).status == 200


def test_a_peer_that_has_no_fast_echoes_is_not_found():
    with running(app(up=True)) as server:
        assert server.get(path(OTHER)).status == 404
        assert server.get(path(interface="wg1")).status == 404
        assert b"fast: {}" in server.get(path(OTHER)).body
        for wrong in ("", "wg0", "wg0/", "wg0/x/up", f"wg0/{URL_SAFE}", f"wg0/{URL_SAFE}/down", f"/{URL_SAFE}/up"):
            assert server.get(PEERS_PATH + wrong).status == 404
        assert server.get(path(), method="POST").status == 405


def test_before_the_first_look_nothing_is_known_of_anybody():
    with running() as server:
        server.app.problem = "not read yet"
        answer = server.get(path())
    assert (answer.status, answer.body) == (503, b"not known: not read yet\n")


def test_a_peer_in_another_namespace_is_asked_for_with_it():
    with running(app(up=True, netns="blue")) as server:
        assert server.get(path()).status == 404
        assert server.get(path() + "?netns=blue").status == 200


def test_an_answer_takes_about_a_millisecond():
    """The fastest of 50, with the connection and Python's own client in it, and ten times as long: others work too."""
    with running(app(up=True)) as server:
        times = []
        for _ in range(50):
            began = time.perf_counter()
            server.get(path())
            times.append(time.perf_counter() - began)
    assert min(times) < 0.01


@given(st.text(max_size=80))
def test_whatever_is_asked_for_is_a_peer_or_nothing(text):
    found = peer_asked(text)
    assert found is None or (len(found[1]) == 44 and "/" not in found[0])
