"""The HTTP server with real clients on loopback."""

from __future__ import annotations

import gzip
import hashlib
import logging
import re
import threading
import time

import pytest

from tests.serving import App, eventually, running
from wg_exporter.web.landing import Landing
from wg_exporter.web.server import Format, Limits

TEXT = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"
PROMETHEUS_3 = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,application/openmetrics-text;"
    "version=0.0.1;q=0.4,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,text/plain;version=0.0.4;q=0.2,*/*;q=0.1"
)
BIG = [bytes([65 + i]) * 1_300_000 for i in range(9)]


def test_a_scrape_without_any_wish_is_plain_text_with_exactly_these_headers():
    with running() as server:
        answer = server.get(Accept_Encoding="identity")
    assert answer.status == 200
    assert answer.body == b"native text\n"
    del answer.headers["Date"]
    assert answer.headers == {
        "Content-Type": TEXT,
        "Content-Length": "12",
        "Vary": "Accept, Accept-Encoding",
        "Server": "wg-exporter",
    }


def test_prometheus_3_gets_openmetrics_in_gzip():
    with running() as server:
        answer = server.get(Accept=PROMETHEUS_3, Accept_Encoding="gzip")
    assert answer.headers["Content-Type"] == OPENMETRICS
    assert answer.headers["Content-Encoding"] == "gzip"
    assert answer.headers["Vary"] == "Accept, Accept-Encoding"
    assert gzip.decompress(answer.body) == b"native openmetrics\n"


def test_wishes_may_be_spread_over_several_headers():
    request = (
        b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAccept: text/plain;q=0.1\r\n"
        b"Accept: application/openmetrics-text\r\nAccept-Encoding: br\r\nAccept-Encoding: gzip\r\n\r\n"
    )
    with running() as server:
        head, _, body = server.ask(request).partition(b"\r\n\r\n")
    assert b"application/openmetrics-text; version=1.0.0" in head
    assert gzip.decompress(body) == b"native openmetrics\n"


def test_a_big_body_arrives_whole_plain_and_gzip_with_its_length():
    whole = b"".join(BIG)
    with running(App(lambda path, wanted: BIG)) as server:
        plain = server.get()
        packed = server.get(Accept_Encoding="gzip")
    assert plain.body == whole
    assert plain.headers["Content-Length"] == str(len(whole))
    assert packed.headers["Content-Length"] == str(len(packed.body))
    assert gzip.decompress(packed.body) == whole


@pytest.mark.parametrize("chunks", [[], [b""], [b"", b"a", b"", b"b\n", b""]])
def test_empty_chunks_do_no_harm(chunks):
    with running(App(lambda path, wanted: chunks)) as server:
        assert server.get().body == b"".join(chunks)
        assert gzip.decompress(server.get(Accept_Encoding="gzip").body) == b"".join(chunks)


@pytest.mark.parametrize("encoding", ["identity", "gzip"])
def test_head_has_the_headers_of_get_and_no_body(encoding):
    with running() as server:
        get = server.get(Accept_Encoding=encoding)
        head = server.get(method="HEAD", Accept_Encoding=encoding)
    get.headers.pop("Date")
    head.headers.pop("Date")
    assert head.headers == get.headers
    assert head.body == b""


def test_head_leaves_nothing_behind_on_a_connection_that_stays_open():
    request = (
        b"HEAD /metrics HTTP/1.1\r\nHost: x\r\n\r\nGET /-/healthy HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    )
    with running() as server:
        answer = server.ask(request)
    assert answer.count(b"HTTP/1.1 200 OK\r\n") == 2
    assert b"native" not in answer


def test_the_other_exporters_pages_are_below_the_telemetry_path():
    with running() as server:
        assert server.get("/metrics/mindflavor").body == b"mindflavor text\n"
        assert server.get("/metrics/mdlayher", Accept=PROMETHEUS_3).body == b"mdlayher openmetrics\n"
    assert server.app.calls == [("mindflavor", Format.TEXT), ("mdlayher", Format.OPENMETRICS)]


def test_twenty_scrapers_at_once_cost_one_scrape():
    app = App()
    app.gate.clear()
    bodies = []
    with running(app) as server:
        clients = [threading.Thread(target=lambda: bodies.append(server.get().body)) for _ in range(20)]
        for client in clients:
            client.start()
        eventually(lambda: len(server.server._clients._busy) == 20)  # all of them have asked
        app.gate.set()
        for client in clients:
            client.join(30)
    assert bodies == [b"native text\n"] * 20
    assert len(app.calls) == 1


def test_a_gzip_and_a_plain_scraper_share_the_scrape_too():
    app = App()
    app.gate.clear()
    bodies = []
    with running(app) as server:
        clients = [
            threading.Thread(target=lambda: bodies.append(gzip.decompress(server.get(Accept_Encoding="gzip").body))),
            threading.Thread(target=lambda: bodies.append(server.get().body)),
        ]
        for client in clients:
            client.start()
        eventually(lambda: len(server.server._clients._busy) == 2)
        app.gate.set()
        for client in clients:
            client.join(30)
    assert bodies == [b"native text\n"] * 2
    assert len(app.calls) == 1


def test_one_scrape_after_the_other_never_gets_old_bytes():
    app = App(lambda path, wanted: [str(len(app.calls)).encode()])
    with running(app) as server:
        assert [server.get().body for _ in range(5)] == [b"1", b"2", b"3", b"4", b"5"]


def test_a_client_that_leaves_does_not_take_the_scrape_from_the_others():
    app = App()
    app.gate.clear()
    with running(app) as server:
        leaver = server.connect()
        leaver.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
        assert app.begun.wait(30)
        bodies = []
        other = threading.Thread(target=lambda: bodies.append(server.get().body))
        other.start()
        eventually(lambda: len(server.server._clients._busy) == 2)
        leaver.close()
        time.sleep(0.1)
        app.gate.set()
        other.join(30)
    assert bodies == [b"native text\n"]
    assert len(app.calls) == 1


def test_health_and_pages_answer_while_a_scrape_takes_its_time():
    app = App()
    app.gate.clear()
    with running(app) as server:
        waiting = threading.Thread(target=server.get)
        waiting.start()
        assert app.begun.wait(30)
        assert server.get("/-/healthy").status == 200
        assert server.get("/").status == 200
        assert waiting.is_alive()
        app.gate.set()
        waiting.join(30)


def test_a_scrape_that_raises_is_500_with_one_line_and_logged_once_while_it_lasts(caplog):
    def fail(path, wanted):
        raise RuntimeError("the detail <that> is for the log")

    app = App(fail)
    with running(app) as server, caplog.at_level(logging.INFO):
        answers = [server.get(), server.get(Accept_Encoding="gzip"), server.get()]
        assert [(a.status, a.body) for a in answers] == [
            (500, b"the scrape failed; the log of wg-exporter says why\n")
        ] * 3
        assert [r.getMessage() for r in caplog.records] == ["scrape failed"]
        assert caplog.records[0].exc_info[1].args == ("the detail <that> is for the log",)
        app.body = lambda path, wanted: [b"good\n"]
        assert server.get().body == b"good\n"
        app.body = fail
        server.get()
        assert [r.getMessage() for r in caplog.records] == ["scrape failed"] * 2


def test_a_scrape_that_never_ends_is_503_and_is_not_started_again(caplog):
    app = App()
    app.gate.clear()
    with running(app, limits=Limits(scrape=0.2)) as server:
        answers = [server.get() for _ in range(3)]
        assert [a.status for a in answers] == [503] * 3
        assert answers[0].body.count(b"\n") == 1
        assert len(app.calls) == 1
        assert [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING] == ["scrape does not end"]
        app.gate.set()
        eventually(lambda: server.get().status == 200)


def test_ready_says_why_not():
    with running() as server:
        assert (server.get("/-/ready").status, server.get("/-/ready").body) == (200, b"wg-exporter is ready.\n")
        server.app.problem = "the first read is not finished"
        answer = server.get("/-/ready")
        assert (answer.status, answer.body) == (503, b"wg-exporter is not ready: the first read is not finished\n")
        healthy = server.get("/-/healthy")
    assert (healthy.status, healthy.body) == (200, b"wg-exporter is healthy.\n")
    assert server.app.calls == []


@pytest.mark.parametrize(
    "path",
    [
        "/nothing",
        "/metrics/",
        "//metrics",
        "/metrics/other",
        "/metrics/../metrics",
        "/../../etc/passwd",
        "/..%2f..%2fetc%2fpasswd",
        "/%2e%2e/%2e%2e/etc/shadow",
        "/metrics%00",
        "/%ff%fe",
        "/%",
        "/metrics;x=1",
        "/-/reload/",
        "/-/",
    ],
)
def test_any_other_path_is_404_with_a_hint(path):
    with running() as server:
        answer = server.get(path)
    assert (answer.status, answer.body) == (404, b"not found; metrics are at /metrics\n")
    assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert server.app.calls == []


def test_a_query_changes_nothing():
    with running() as server:
        assert server.get("/metrics?name=x&name=y").body == b"native text\n"


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "TRACE", "PATCH"])
@pytest.mark.parametrize("path", ["/metrics", "/", "/-/healthy"])
def test_a_wrong_method_is_405_that_says_which_is_right(method, path):
    with running() as server:
        answer = server.get(path, method=method)
    assert (answer.status, answer.headers["Allow"]) == (405, "GET, HEAD")
    assert answer.body == b"method not allowed; use GET, HEAD\n"
    assert server.app.calls == []


@pytest.mark.parametrize(
    "request_",
    [
        b"GET /metrics HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 100_000 + b"\r\n\r\n",
        b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /metrics HTTP/1.1\r\nHost: x\r\n" + b"X: y\r\n" * 50_000 + b"\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200) + b"\r\n\r\n",
        b"\x00\r\n\r\n",
        b"BREW /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        b"GET /metrics HTTP/9.9\r\n\r\n",
        b"GET /metrics HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"GET /metrics HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\nabc",
        b"GET /metrics HTTP/1.1\r\nBad Header: x\r\n\r\n",
        b"POST /x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nSECRET" + b"Z" * 14_000 + b"\r\n",
        b"GET /metrics HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 20_000 + b"\r\n\r\n",
    ],
)
def test_a_malformed_or_huge_request_is_4xx_and_no_line_in_the_log(request_, caplog):
    with running() as server, caplog.at_level(logging.INFO):
        answer = server.ask(request_)
        assert server.get().status == 200
    assert re.match(rb"HTTP/1\.[01] 4\d\d ", answer), answer[:80]
    assert b"Traceback" not in answer
    assert [r.getMessage() for r in caplog.records] == []


@pytest.mark.parametrize(
    "target", [b"*", b"example.org:443", b"http://example.org/metrics", b"http://[", b"?", b"#", b"/\xff"]
)
@pytest.mark.parametrize("method", [b"GET", b"OPTIONS", b"CONNECT"])
def test_odd_request_targets_get_an_answer(method, target):
    with running() as server:
        answer = server.ask(method + b" " + target + b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert server.get().status == 200
    assert re.match(rb"HTTP/1\.[01] (200|4\d\d) ", answer), answer[:80]


@pytest.mark.parametrize(
    "head",
    [
        b"Content-Length: 3",
        b"Content-Length: 99999999999",
        b"Transfer-Encoding: chunked",
        b"Expect: 100-continue\r\nContent-Length: 9",
    ],
)
@pytest.mark.parametrize("method", [b"GET", b"POST"])
def test_a_request_with_a_body_is_refused_and_the_body_not_read(method, head):
    with running() as server:
        answer = server.ask(method + b" /metrics HTTP/1.1\r\nHost: x\r\n" + head + b"\r\n\r\n" + b"3\r\nabc" * 1000)
        assert answer.startswith(b"HTTP/1.1 413 "), answer[:80]
        assert b"Connection: close" in answer
        assert server.app.calls == []


def test_a_request_with_an_empty_body_is_one_without():
    with running() as server:
        answer = server.ask(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
    assert answer.endswith(b"native text\n")


def test_http_1_0_works():
    with running() as server:
        answer = server.ask(b"GET /metrics HTTP/1.0\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")  # RFC 9110, 6.2: the version is that of the server
    assert answer.endswith(b"\r\n\r\nnative text\n")


def test_a_connection_is_kept_for_the_next_scrape():
    with running() as server, server.connect() as sock:
        for _ in range(3):
            sock.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
            data = b""
            while not data.endswith(b"native text\n"):
                data += sock.recv(4096)
            assert b"close" not in data.lower()


def test_the_landing_page_links_everything_and_allows_nothing_else():
    with running() as server:
        answer = server.get("/")
        page = answer.body.decode()
        links = re.findall(r'<a href="\.([^"]+)"', page)
        telemetry = ["/metrics", "/metrics/mindflavor", "/metrics/mdlayher"]
        assert links == [*telemetry, "/api/v1/status", "/api/v1/events", "/-/healthy", "/-/ready"]
        assert [server.get(link).status for link in links] == [200] * 7
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    policy = dict(rule.partition(" ")[::2] for rule in answer.headers["Content-Security-Policy"].split("; "))
    assert (policy["default-src"], policy["script-src"], policy["style-src"]) == ("'none'", "'self'", "'self'")
    assert not [rule for rule in policy.values() if "unsafe" in rule or "http" in rule or "*" in rule]
    assert answer.headers["Cache-Control"] == "no-store"
    assert "the names of &lt;another&gt; exporter" in page
    assert not re.search(r"(?:src|href|api)=\"(?!\./)", page)


def test_files_of_the_page_are_kept_for_ever_and_have_another_name_when_they_change():
    with running() as server:
        page = server.get("/").body.decode()
        files = re.findall(r'(?:src|href)="\.(/static/[^"]+)"', page)
        assert [re.sub(r"\.[0-9a-f]{12}\.", ".", name) for name in files] == [
            "/static/icon.svg", "/static/page.css", "/static/page.js",
        ]  # fmt: skip
        for name, kind in zip(files, ("image/svg+xml", "text/css", "text/javascript"), strict=True):
            answer = server.get(name)
            assert answer.status == 200
            assert answer.headers["Content-Type"].startswith(kind)
            assert answer.headers["Cache-Control"] == "max-age=31536000, immutable"
            assert answer.headers["X-Content-Type-Options"] == "nosniff"
            assert hashlib.sha256(answer.body).hexdigest()[:12] in name
            packed = server.get(name, Accept_Encoding="gzip")
            assert packed.headers["Content-Encoding"] == "gzip"
            assert gzip.decompress(packed.body) == answer.body
        assert server.get("/static/page.js").status == 404
        assert server.get(files[0], method="POST").status == 405


def test_who_asks_for_round_trips_gets_them_and_what_is_no_answer_is_refused():
    with running() as server:
        for wish, status, told in (
            ("", 200, False),
            ("?round_trips=true", 200, True),
            ("?round_trips=false", 200, False),
        ):
            assert server.get(f"/api/v1/status{wish}").status == status
            assert server.app.round_trips is told
        answer = server.get("/api/v1/status?round_trips=1")
        assert (answer.status, answer.body) == (400, b"round_trips is true or false\n")


def test_metrics_can_be_at_the_root():
    with running(telemetry_path="/") as server:
        assert server.get("/").body == b"native text\n"
        assert server.get("/mindflavor").body == b"mindflavor text\n"
        assert server.get("/metrics").body == b"not found; metrics are at /\n"


def test_metrics_can_be_elsewhere():
    with running(telemetry_path="/a/b") as server:
        assert server.get("/a/b").body == b"native text\n"
        assert server.get("/a/b/mdlayher").body == b"mdlayher text\n"
        assert server.get("/metrics").status == 404
        assert b'href="./a/b/mdlayher"' in server.get("/").body


def test_the_addresses_are_known_after_the_start():
    with running() as server:
        assert server.server.addresses == (f"127.0.0.1:{server.port}",)


@pytest.mark.parametrize(("listen", "hosts"), [(":0", ["127.0.0.1", "::1"]), ("[::1]:0", ["::1"])])
def test_ipv4_and_ipv6(listen, hosts):
    with running(listen=listen) as server:
        assert [server.get(host=host).body for host in hosts] == [b"native text\n"] * len(hosts)


def test_what_is_being_sent_at_a_stop_still_arrives():
    app = App()
    app.gate.clear()
    bodies = []
    with running(app, limits=Limits(stop=20)) as server:
        client = threading.Thread(target=lambda: bodies.append(server.get().body))
        client.start()
        assert app.begun.wait(30)
        threading.Timer(0.2, app.gate.set).start()
    client.join(30)
    assert bodies == [b"native text\n"]


def test_who_calls_it_by_another_name_is_answered_with_nothing_that_it_knows():
    with running() as server:
        server.app.host = "gw1.example:9586"
        for path in ("/metrics", "/", "/api/v1/status", Landing.assets[0].path, "/-/healthy", "/no"):
            answer = server.get(path, Host="attacker.example:9586")
            assert (answer.status, answer.body) == (
                421,
                b"this name is not in web.allowed_hosts of the configuration\n",
            )
        assert server.app.calls == []
        assert server.get(Host="gw1.example:9586").status == 200


@pytest.mark.parametrize(
    ("more", "status"), [("Content-Length: 5", 413), ("Transfer-Encoding: chunked", 413), ("Host: y", 400)]
)
def test_a_head_request_that_is_refused_gets_a_head_alone_and_no_line_of_the_log(caplog, more, status):
    with running() as server:
        answer = server.ask(f"HEAD /metrics HTTP/1.1\r\nHost: x\r\n{more}\r\n\r\n".encode())
    assert answer.startswith(f"HTTP/1.1 {status} ".encode())
    assert status == 400 or answer.endswith(b"\r\n\r\n"), "of one that is no request nobody knows the method"
    assert not caplog.records


def test_requests_that_fail_are_one_line_a_minute(caplog):
    app = App()
    app.allows_host = lambda host: {}[host]  # type: ignore[method-assign]
    with running(app) as server:
        for _ in range(20):
            assert server.ask(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n") == b""
    assert [record.getMessage() for record in caplog.records] == ["request failed"]
