"""The docs that the exporter serves: an alert has its page, each link leads somewhere, nothing comes from elsewhere."""

from __future__ import annotations

import base64
import gzip
import hashlib
import re
import subprocess
import sys
from html.parser import HTMLParser
from urllib.parse import urljoin, urlsplit

import pytest

from tests.promtool import alerts, names
from tests.serving import running
from wg_exporter import __version__, shipped
from wg_exporter.linux.privileges import readable_by_all
from wg_exporter.shipped.links import relinked
from wg_exporter.web.docs import Docs
from wg_exporter.web.markdown import Renderer

BASE = "http://gw1:9586"


class Page(HTMLParser):
    """What a browser finds in a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.ids: list[str] = []
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        self.tags.add(tag)
        self.attributes |= found.keys()
        self.links += [found["href"]] if "href" in found else []
        self.ids += [found["id"]] if "id" in found else []


@pytest.fixture(scope="module")
def server():
    with running(docs=Docs()) as server:
        yield server


@pytest.fixture(scope="module")
def site(server):
    """All that is reached from the first page by links, as a browser follows them; the answer at each path."""
    found, todo = {}, ["/docs/"]
    while todo:
        path = todo.pop()
        if path in found:
            continue
        found[path] = server.get(path)
        if found[path].headers["Content-Type"].startswith("text/html") and path.startswith("/docs/"):
            page = Page(found[path].body.decode())
            absolute = [urljoin(f"{BASE}{path}", link) for link in page.links]
            todo += [urlsplit(link).path for link in absolute if link.startswith(BASE)]
    return found


@pytest.fixture(scope="module")
def pages(site):
    return {
        path: Page(answer.body.decode())
        for path, answer in site.items()
        if path.startswith("/docs/") and not path.startswith("/docs/files/")
    }


# What is there


@pytest.mark.parametrize("name", names())
def test_an_alert_leads_to_its_page(server, name):
    [link] = {
        re.sub(r"\{\{ (?:with|else|end).*?\}\}|'", "", re.sub(r"\{\{ (?:\. \||\$labels).*?\}\}", "", url)).strip()
        for url in (alert.annotations["runbook_url"] for alert in alerts() if alert.name == name)
    }
    answer = server.get(urlsplit(link).path)
    assert answer.status == 200
    assert f'<h1 id="{name.lower()}">{name}</h1>' in answer.body.decode()
    assert f"<title>{name} - wg-exporter</title>" in answer.body.decode()


def test_no_link_is_dead(site):
    assert {path: answer.status for path, answer in site.items() if answer.status != 200} == {}


def test_all_pages_and_files_can_be_found(site):
    assert Docs().paths | {"/"} == site.keys()


def test_a_link_to_a_heading_finds_it(pages):
    for path, page in pages.items():
        assert len(page.ids) == len(set(page.ids)), path
        for link in page.links:
            there = urlsplit(urljoin(f"{BASE}{path}", link))
            if there.fragment and there.netloc == "gw1:9586":
                assert there.fragment in pages[there.path].ids, (path, link)


def test_links_do_not_name_the_host_so_a_proxy_may_add_to_the_path(pages):
    for path, page in pages.items():
        assert [link for link in page.links if link.startswith("/")] == [], path


def test_files_are_those_that_are_shipped(server):
    for name in shipped.FILES:
        answer = server.get(f"/docs/files/{name}")
        assert (answer.status, answer.body.decode()) == (200, shipped.read(name))
        assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"


def test_each_page_says_of_which_version_it_is(site, pages):
    for path in pages:
        assert f"<footer>wg-exporter {__version__}</footer>" in site[path].body.decode()


def test_what_is_typed_without_the_slash_is_found(server):
    for path, there in (("/docs", "/docs/"), ("/docs/alerts", "/docs/alerts/")):
        answer = server.get(path)
        assert answer.status == 301
        assert urlsplit(urljoin(f"{BASE}{path}", answer.headers["Location"])).path == there


@pytest.mark.parametrize(
    "path", ["/docs/no", "/docs/../pyproject.toml", "/docs/alerts/../../x", "/docs/files/docs/cli.py"]
)
def test_nothing_else_is_there(server, path):
    assert server.get(path).status == 404


def test_it_is_compressed_for_those_who_take_that(server):
    plain, packed = (server.get("/docs/health", Accept_Encoding=encoding) for encoding in ("identity", "gzip"))
    assert gzip.decompress(packed.body) == plain.body
    assert server.get("/docs/health", method="HEAD").body == b""


def test_a_server_without_docs_has_none():
    with running() as server:
        assert server.get("/docs/").status == 404


# Nothing from elsewhere


def test_pages_load_nothing_and_run_nothing(site, pages):
    for path, page in pages.items():
        assert not page.tags & {"script", "img", "link", "iframe", "object", "form", "base"}, path
        assert not {name for name in page.attributes if name.startswith("on")} | (page.attributes & {"style", "src"})
        policy = site[path].headers["Content-Security-Policy"]
        [style] = re.findall(r"<style>(.*?)</style>", site[path].body.decode())
        digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
        assert policy.startswith(f"default-src 'none'; style-src 'sha256-{digest}';")
        assert site[path].headers["X-Content-Type-Options"] == "nosniff"


def test_pages_fit_a_phone_and_the_dark(site, pages):
    for path in pages:
        text = site[path].body.decode()
        assert '<meta name="viewport" content="width=device-width">' in text
        assert "prefers-color-scheme:dark" in text
        assert text.count("<table>") == text.count('<div class="wide"><table>')


def test_markup_in_a_page_is_left_out():
    html = Renderer().render(
        "<!-- note -->\n# A <b>b</b>\n\n[x](javascript:alert(1)) `<i>`\n\n| a |\n| --: |\n| <u>1</u> |\n"
    )
    assert Page(html).tags == {"h1", "p", "code", "div", "table", "thead", "tbody", "tr", "th", "td"}
    assert Page(html).attributes == {"id", "class"}
    assert "note" not in html


def test_headings_of_one_name_have_ids_of_their_own():
    assert Page(Renderer().render("# One, `two`\n\n# One, two\n")).ids == ["one-two", "one-two-1"]


def test_a_link_to_what_is_not_there_is_text_and_a_picture_what_it_shows():
    text = "[a](x.md#h) [b](../y.yml) ![c\nd](z.png) [e](#f) [g](https://h)"
    found = relinked(text, "docs/p.md", lambda name: {"docs/x.md": "there"}.get(name, ""))
    assert found == "[a](there#h) b *Picture: c\nd* [e](#f) [g](https://h)"


# What it takes


def test_the_renderer_is_not_imported_before_somebody_asks():
    code = (
        "import sys; from wg_exporter.web.docs import Docs; docs = Docs(); print('markdown_it' in sys.modules);"
        "docs.body('/docs/'); print('markdown_it' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.split() == ["False", "True"]


def test_all_that_is_kept_of_all_pages_is_small():
    docs = Docs()
    for path in docs.paths:
        docs.body(path)
    assert sum(map(len, [*docs._texts.values(), *docs._made.values()])) < 400_000


def test_pages_are_those_of_the_program_that_runs_though_their_files_are_gone(monkeypatch, tmp_path):
    docs = Docs()
    monkeypatch.setattr(shipped, "ROOT", tmp_path)
    assert b"<h1" in docs.body("/docs/health")


def test_without_the_files_all_else_is_served(monkeypatch, tmp_path, caplog):
    monkeypatch.setattr(shipped, "ROOT", tmp_path)
    with running(docs=Docs()) as server:
        assert server.get("/metrics").status == 200
        assert server.get("/docs/").status == 200
    assert ["install wg-exporter again" in record.fields["problem"] for record in caplog.records] == [True]


def test_whether_another_user_may_read_a_file_is_told_by_its_mode_and_its_directories(tmp_path):
    file = tmp_path / "a" / "b"
    file.parent.mkdir(mode=0o755)
    assert not readable_by_all(file)
    file.write_text("")
    reachable = all(at.stat().st_mode & 0o001 for at in file.parents)
    assert readable_by_all(file) is reachable
    file.chmod(0o600)
    assert not readable_by_all(file)
    file.chmod(0o644)
    file.parent.chmod(0o700)
    assert not readable_by_all(file)


def test_the_page_of_the_host_leads_to_the_docs_where_there_are_some():
    with running(docs=Docs()) as server:
        assert b'href="./docs/"' in server.get("/").body
    with running() as server:
        assert b"/docs/" not in server.get("/").body


def test_a_long_line_of_code_is_never_cut(server):
    assert re.search(r"<style>.*pre\{[^}]*white-space:pre-wrap", server.get("/docs/health").body.decode())
