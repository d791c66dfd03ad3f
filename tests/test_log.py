"""What log lines look like, whatever is logged."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import os
import pathlib
import re
import socket
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wg_exporter import log
from wg_exporter.log import Log, OnChange, setup
from wg_exporter.model import Backend

TS = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"


@pytest.fixture(autouse=True)
def _logging_as_before():
    root, ours = logging.getLogger(), logging.getLogger(log.ROOT)
    before = root.handlers[:], root.level, ours.level
    yield
    root.handlers[:], level, our_level = before
    root.setLevel(level)
    ours.setLevel(our_level)


def lines(format_, *calls, level="debug"):
    stream = io.StringIO()
    setup(level, format_, stream)
    for call in calls:
        call(Log("wg_exporter.test"))
    return stream.getvalue().splitlines(keepends=True)


def logfmt(**fields):
    (line,) = lines("logfmt", lambda to: to.info("x", **fields))
    return line.partition(" msg=x ")[2].rstrip("\n")


def as_json(**fields):
    (line,) = lines("json", lambda to: to.info("x", **fields))
    return json.loads(line)


def test_logfmt():
    (line,) = lines("logfmt", lambda to: to.info("config loaded", file="/etc/wg.yml", peers=3))
    assert re.fullmatch(rf'ts={TS} level=info msg="config loaded" file=/etc/wg\.yml peers=3\n', line)


def test_json():
    (line,) = lines("json", lambda to: to.warn("config loaded", file="/etc/wg.yml", peers=3, ok=True, why=None))
    entry = json.loads(line)
    assert re.fullmatch(TS, entry.pop("ts"))
    assert entry == {
        "level": "warn", "msg": "config loaded", "file": "/etc/wg.yml", "peers": 3, "ok": True, "why": None,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("level", "shown"),
    [
        ("debug", ["debug", "info", "warn", "error"]),
        ("info", ["info", "warn", "error"]),
        ("warn", ["warn", "error"]),
        ("warning", ["warn", "error"]),
        ("WARN", ["warn", "error"]),
        ("error", ["error"]),
    ],
)
def test_a_level_shows_itself_and_what_is_worse(level, shown):
    written = lines(
        "json",
        lambda to: to.debug("x"),
        lambda to: to.info("x"),
        lambda to: to.warn("x"),
        lambda to: to.error("x"),
        level=level,
    )
    assert [json.loads(line)["level"] for line in written] == shown


@pytest.mark.parametrize(
    ("level", "format_", "line"),
    [
        ("loud", "json", "unknown log level 'loud'; use one of debug, info, warn, error"),
        ("info", "xml", "unknown log format 'xml'; use one of logfmt, json"),
    ],
)
def test_an_unknown_level_or_format_says_which_exist(level, format_, line):
    with pytest.raises(ValueError, match=f"^{re.escape(line)}$"):
        setup(level, format_)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("plain", "plain"),
        ("", '""'),
        ("two words", '"two words"'),
        ("a=b", '"a=b"'),
        ('say "hi"', '"say \\"hi\\""'),
        ("back\\slash", '"back\\\\slash"'),
        ("line\nbreak\r\ttab", '"line\\nbreak\\r\\ttab"'),
        ("\x1b[31mred\x00", '"\\u001b[31mred\\u0000"'),
        ("Zo\u00eb", "Zo\u00eb"),
        ("\u202eevil\u2028", '"\\u202eevil\\u2028"'),
        ("\udc80", '"\\udc80"'),
        ("\U000e0001", '"\\udb40\\udc01"'),
        (True, "true"),
        (None, "null"),
        ("None", "None"),
        (1.5, "1.5"),
        (float("nan"), "nan"),
        (pathlib.Path("/etc/x y"), '"/etc/x y"'),
        (Backend.KERNEL, "kernel"),
        (("wg0", "wg1", 2), "wg0,wg1,2"),
        (ValueError("bad\nvalue"), '"ValueError: bad\\nvalue"'),
    ],
)
def test_how_a_value_is_written_in_logfmt(value, shown):
    assert logfmt(field=value) == f"field={shown}"


@given(st.text())
def test_a_logfmt_value_is_one_line_that_can_be_read_back(value):
    text = logfmt(field=value).removeprefix("field=")
    assert len(text.splitlines()) == 1
    if text.startswith('"'):
        text = json.loads(text).encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")
    else:
        assert not re.search(r'[\s="\\]', text)
    assert text == value.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")


@given(st.dictionaries(st.text(), st.text() | st.integers(-(2**70), 2**70) | st.floats() | st.none() | st.booleans()))
def test_a_json_line_is_one_line_of_valid_json(fields):
    stream = io.StringIO()
    setup("info", "json", stream)
    Log("wg_exporter.test").info("x", **fields)
    (line,) = stream.getvalue().splitlines()
    entry = json.loads(line, parse_constant=pytest.fail)
    assert entry["level"] == "info"
    assert entry["msg"] == "x"
    assert line.isascii()


def test_a_field_never_covers_what_every_line_has():
    assert logfmt(ts=1, level=2, msg=3, exc=4) == "ts_=1 level_=2 msg_=3 exc_=4"


def test_a_field_name_that_would_break_the_line_is_mended():
    assert logfmt(**{"a b": 1, 'c="': 2, "": 3, "\n": 4}) == "a_b=1 c__=2 _=4"


def test_an_event_with_a_percent_sign_is_no_format():
    (line,) = lines("logfmt", lambda to: to.info("100%s %d", share="%x"))
    assert 'msg="100%s %d" share=%x' in line


@pytest.mark.parametrize("format_", ["logfmt", "json"])
def test_raw_data_is_never_printed_even_at_debug(format_):
    secret = b"\x01secret key material\x02"

    class Holder:
        def __repr__(self):
            return "secret repr"

    (line,) = lines(
        format_,
        lambda to: to.debug(
            "read", a=secret, b=bytearray(secret), c=memoryview(secret), d=Holder(), e=[secret], f={"k": "secret dict"}
        ),
    )
    assert "secret" not in line
    assert "<bytes>" in line
    assert "<Holder>" in line


def test_a_value_is_cut_where_nobody_reads_on():
    shown = logfmt(field="x" * 1_000_000)
    assert len(shown) < 2_100
    assert "(1000000 characters)" in shown


def test_a_traceback_is_one_field_on_one_line():
    def fail(to):
        try:
            int("two\nlines")
        except ValueError as error:
            to.error("it failed", exc=error, where="here")

    (line,) = lines("logfmt", fail)
    assert 'msg="it failed" where=here exc="Traceback (most recent call last):\\n' in line
    assert line.endswith("""ValueError: invalid literal for int() with base 10: 'two\\\\nlines'"\n""")
    (line,) = lines("json", fail)
    assert json.loads(line)["exc"].endswith("with base 10: 'two\\nlines'")


def test_a_failure_that_an_event_loop_catches_is_one_line_that_quotes_nothing():
    stream = io.StringIO()
    setup("info", "logfmt", stream)

    def fail() -> None:
        raise ValueError("SECRET")

    async def main() -> None:
        log.catch_loop(asyncio.get_running_loop())
        asyncio.get_running_loop().call_soon(fail)
        await asyncio.sleep(0.01)

    asyncio.run(main())
    assert len(stream.getvalue().splitlines()) == 1
    assert 'problem="unexpected ValueError in test_log.py:' in stream.getvalue()
    assert "SECRET" not in stream.getvalue()


def test_other_libraries_are_heard_from_warn_upwards_with_their_name():
    stream = io.StringIO()
    setup("debug", "logfmt", stream)
    other = logging.getLogger("pyroute2.netlink")
    other.debug("raw %s", b"secret")
    other.info("chatter")
    other.warning("take %s", "care")
    (line,) = stream.getvalue().splitlines()
    assert line.endswith(' level=warn msg="take care" logger=pyroute2.netlink')


def test_plain_logging_with_fields_works_as_well():
    stream = io.StringIO()
    setup("info", "logfmt", stream)
    logging.getLogger("wg_exporter.web.server").error("scrape failed", extra={"fields": {"page": "mdlayher"}})
    assert stream.getvalue().endswith(' level=error msg="scrape failed" page=mdlayher\n')


def test_a_second_setup_replaces_the_first():
    first, second = io.StringIO(), io.StringIO()
    setup("info", "json", first)
    setup("info", "json", second)
    Log("wg_exporter.test").info("x")
    assert first.getvalue() == ""
    assert len(second.getvalue().splitlines()) == 1


def test_a_stream_that_fails_costs_the_line_and_no_more(capsys):
    class Full(io.StringIO):
        def write(self, text):
            raise OSError(28, "No space left on device")

    setup("info", "logfmt", Full())
    Log("wg_exporter.test").info("x")
    assert capsys.readouterr().err == ""


def test_what_is_fine_from_the_start_is_no_news():
    seen = OnChange()
    assert not seen.changed("kernel", "")
    assert not seen.changed("kernel", "")


def test_a_problem_is_news_once_and_again_when_it_changes_and_when_it_goes():
    seen = OnChange()
    values = ["down", "down", "gone", "gone", "", "", "down"]
    assert [seen.changed("kernel", value) for value in values] == [True, False, True, False, True, False, True]


def test_keys_do_not_know_of_each_other():
    seen = OnChange()
    assert seen.changed(("conf", "a"), "bad")
    assert seen.changed(("conf", "b"), "bad")
    assert not seen.changed(("conf", "a"), "bad")


def test_keys_without_end_do_not_fill_the_memory(monkeypatch):
    monkeypatch.setattr(log, "MAX_KEYS", 3)
    seen = OnChange()
    assert [seen.changed(key, "bad") for key in "abcd"] == [True] * 4
    assert not seen.changed("d", "bad")
    assert seen.changed("a", "bad")


# --- where nobody takes the lines ------------------------------------------------------------------------------------


@pytest.fixture(params=["a pipe", "a socket"])
def ends(request):
    """What is written to, and what reads it."""
    if request.param == "a pipe":
        reads, writes = os.pipe()
    else:
        reads, writes = (end.detach() for end in socket.socketpair())
    yield writes, reads
    for end in (writes, reads):
        os.close(end)


def taken(fd: int) -> str:
    """All that is there."""
    os.set_blocking(fd, False)
    data = b""
    try:
        while part := os.read(fd, 1 << 20):
            data += part
    except BlockingIOError:
        pass
    return data.decode()


def test_lines_that_nobody_takes_are_dropped_and_counted_and_nothing_waits(ends):
    writes, reads = ends
    handler = log._FileHandler(writes)
    handler.setFormatter(log.LogfmtFormatter())
    logger = logging.Logger("wg_exporter.test")
    logger.addHandler(handler)
    begun = time.monotonic()
    for number in range(3000):
        logger.info("%s%d", "x" * 500, number)
    assert time.monotonic() - begun < 30, "it waited for somebody to take lines"
    assert os.get_blocking(writes), "others may use it too"
    found = taken(reads).splitlines()
    assert 20 < len(found) < 3000
    assert all(line.startswith("ts=") and "msg=x" in line for line in found), "no line is cut"
    logger.info("again")
    dropped, again = taken(reads).splitlines()
    assert dropped.endswith(f'level=warn msg="log lines dropped" number={3000 - len(found)}')
    assert again.endswith("msg=again")
    logger.info("and on")
    assert taken(reads).splitlines()[0].endswith('msg="and on"')


def test_a_reader_that_is_gone_costs_the_line_and_no_more(ends):
    writes, reads = ends
    handler = log._FileHandler(writes)
    handler.setFormatter(log.LogfmtFormatter())
    other = os.dup(reads)
    os.close(reads)
    os.close(other)
    logging.Logger("x").addHandler(handler)
    handler.emit(logging.LogRecord("wg_exporter", logging.INFO, "", 0, "into the void", None, None))
    os.dup2(os.open("/dev/null", os.O_RDONLY), reads)  # for the fixture to close


def test_a_long_line_goes_through_whole_where_somebody_reads(tmp_path):
    with (tmp_path / "log").open("wb") as file:
        handler = log._FileHandler(file.fileno())
        handler.setFormatter(log.LogfmtFormatter())
        for _ in range(3):
            handler.emit(logging.LogRecord("wg_exporter", logging.INFO, "", 0, "%s", ("y" * 2000,), None))
    assert [len(line) > 2000 for line in (tmp_path / "log").read_text().splitlines()] == [True] * 3
