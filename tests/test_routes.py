"""Who is answered at which path, by which method; and what a browser can't be lured to do."""

from __future__ import annotations

import asyncio

import pytest

from wg_exporter.web.http import Request
from wg_exporter.web.routes import Route, Routes, Where, from_elsewhere, line

HOST = "gw1.example.net:9586"


async def _done(_request: Request) -> object:
    return line(200, "done\n")


TABLE = (
    Route("/tells", _done),
    Route("/both", _done, ("GET", "POST")),
    Route("/acts", _done, ("POST",), Where.OWNER),
    Route("/lifecycle", _done, ("POST", "PUT"), Where.LIFECYCLE),
)


def asked(path: str, method: str = "GET", *, local: bool = False, lifecycle: bool = False, **headers: str):
    fields = [(name.replace("_", "-").lower().encode(), value.encode()) for name, value in headers.items()]
    request = Request(method, path, {}, [(b"host", HOST.encode()), *fields], local)
    return asyncio.run(Routes(TABLE, "nothing here\n", lifecycle=lifecycle).answer(request))


def text(response) -> str:
    return b"".join(response.body.chunks).decode()


def test_what_only_tells_is_answered_to_all_by_get_and_head():
    for local in (True, False):
        assert [asked("/tells", method, local=local).status for method in ("GET", "HEAD")] == [200, 200]
    assert (asked("/other").status, text(asked("/other"))) == (404, "nothing here\n")


@pytest.mark.parametrize(
    ("path", "method", "allowed"),
    [
        ("/tells", "POST", "GET, HEAD"),
        ("/both", "DELETE", "GET, HEAD, POST"),
        ("/acts", "GET", "POST"),
        ("/acts", "HEAD", "POST"),
        ("/lifecycle", "GET", "POST, PUT"),
    ],
)
def test_a_wrong_method_is_405_that_says_which_is_right(path, method, allowed):
    answer = asked(path, method, local=True, lifecycle=True)
    assert (answer.status, answer.headers["Allow"]) == (405, allowed)
    assert text(answer) == f"method not allowed; use {allowed}\n"


def test_what_acts_is_answered_on_the_unix_socket_alone_unless_it_was_switched_on():
    assert asked("/acts", "POST", local=True).status == 200
    assert asked("/acts", "POST").status == 403
    assert asked("/acts", "POST", lifecycle=True).status == 403
    for method in ("POST", "PUT"):
        assert asked("/lifecycle", method, local=True).status == 200
        assert asked("/lifecycle", method, lifecycle=True).status == 200
        refused = asked("/lifecycle", method)
        assert refused.status == 403
        assert text(refused).startswith("Lifecycle API is not enabled")


@pytest.mark.parametrize(
    ("headers", "elsewhere"),
    [
        ({}, False),
        ({"Sec_Fetch_Site": "same-origin"}, False),
        ({"Sec_Fetch_Site": "none"}, False),
        ({"Sec_Fetch_Site": "cross-site"}, True),
        ({"Sec_Fetch_Site": "same-site"}, True),
        ({"Sec_Fetch_Site": "cross-site", "Origin": f"http://{HOST}"}, True),
        ({"Origin": f"http://{HOST}"}, False),
        ({"Origin": f"https://{HOST.upper()}"}, False),
        ({"Origin": "http://gw1.example.net"}, True),
        ({"Origin": "https://evil.example"}, True),
        ({"Origin": "null"}, True),
        ({"Origin": "http://[::1"}, True),
    ],
)
def test_a_page_of_another_site_can_not_make_a_browser_act(headers, elsewhere):
    request = Request("POST", "/acts", {}, [])
    fields = [(b"host", HOST.encode())] + [
        (n.replace("_", "-").lower().encode(), v.encode()) for n, v in headers.items()
    ]
    assert from_elsewhere(request._replace(headers=fields)) is elsewhere
    assert asked("/both", "POST", **headers).status == (403 if elsewhere else 200)
    assert asked("/both", "GET", **headers).status == 200, "a link on another page may lead here"
