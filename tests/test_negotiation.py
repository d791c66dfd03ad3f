"""What a client gets for its Accept and Accept-Encoding headers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.exposition import choose_encoder

from wg_exporter.web.negotiation import Format, accepts_gzip, choose_format

OM = "application/openmetrics-text"
PROMETHEUS_3 = (
    f"{OM};version=1.0.0;escaping=allow-utf-8;q=0.5,{OM};version=0.0.1;q=0.4,"
    "text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,text/plain;version=0.0.4;q=0.2,*/*;q=0.1"
)
PROMETHEUS_3_PROTOBUF = (
    "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.6," + PROMETHEUS_3
)
PROMETHEUS_2 = f"{OM};version=1.0.0,{OM};version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
PROMETHEUS_3_TEXT_FIRST = "text/plain;version=0.0.4;q=0.5," + OM + ";version=1.0.0;q=0.4,*/*;q=0.1"
CHROME = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8"


@pytest.mark.parametrize(
    "accept",
    [
        PROMETHEUS_3,
        PROMETHEUS_3_PROTOBUF,
        PROMETHEUS_2,
        OM,
        f"{OM};version=1.0.0",
        f"{OM}; version=0.0.1",
        f'{OM}; version="1.0.0"',
        f"{OM};version=1.0.0;charset=utf-8",
        f"{OM.upper()};VERSION=1.0.0;Q=1",
        f"{OM} ; version = 1.0.0 ; q = 0.5",
        f"{OM}, text/plain",
        f"text/plain;q=0.4,{OM};q=0.5",
        f"{OM};q=0.001",
        f"*/*;q=0.9,text/plain;q=0.1,{OM};q=0.2",  # the wildcard does not speak for text, which is named
        f"*/*,text/*;q=0.1,{OM};q=0.2",
        f"*/*,text/plain;q=0,{OM};q=0.1",
        f",,{OM},,",
    ],
)
def test_openmetrics_for_who_names_it_and_wants_it_most(accept):
    assert choose_format(accept) is Format.OPENMETRICS


@pytest.mark.parametrize("version", ["1.0.1", "1.1.0", "2.0.0", "2.0", "3", "999.999.999"])
def test_a_later_openmetrics_is_answered_with_1_0_0(version):
    chosen = choose_format(f"{OM};version={version}")
    assert chosen.content_type == "application/openmetrics-text; version=1.0.0; charset=utf-8"


def test_the_client_librarys_own_choice_would_label_1_0_as_2_0():
    """The reason for a choice of our own: the day this fails, look at the library again."""
    assert "version=2.0.0" in choose_encoder(f"{OM};version=2.0.0")[1]
    assert "openmetrics" in choose_encoder(f"text/plain;version=0.0.4,{OM};version=1.0.0;q=0")[1]


@pytest.mark.parametrize(
    "accept",
    [
        "",
        "*/*",
        "text/*",
        "application/*",  # does not name OpenMetrics
        "text/plain",
        "text/plain;version=0.0.4",
        "text/plain;version=1.0.0;escaping=allow-utf-8",
        CHROME,
        PROMETHEUS_3_TEXT_FIRST,
        "application/json",
        "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited",
        f"text/plain,{OM}",  # equal: the first
        f"text/plain;q=0.5,{OM};q=0.4",
        f"*/*;q=0.5,{OM};q=0.4",
        f"{OM};q=0",
        f"{OM};q=0,text/plain;q=0",
        f"{OM};q=0.000",
        f"{OM};version=0.0.0",
        f"{OM};version=",
        f"{OM};version=one",
        f"{OM};version=-1.0.0",
        f"{OM};version=1.0.0.0",
        f"{OM};version=\u0661.0.0",
        f"{OM};q=nan",
        f"{OM};q=inf",
        f"{OM};q=2",
        f"{OM};q=-1",
        f"{OM};q=1e0",
        f"{OM};q=",
        f"{OM};q=\u0661",
        OM + "x",
        "x" + OM,
        ";;;",
        ";q=1",
        "=",
    ],
)
def test_text_for_everybody_else(accept):
    assert choose_format(accept) is Format.TEXT


def test_the_content_type_of_text_is_exact():
    assert Format.TEXT.content_type == "text/plain; version=0.0.4; charset=utf-8"


@pytest.mark.parametrize(
    "accept_encoding",
    [
        "gzip",
        "GZIP",
        "x-gzip",
        "gzip, deflate, br, zstd",
        "br;q=1.0, gzip;q=0.8, *;q=0.1",
        "*",
        "*;q=0.1",
        "gzip;q=0.001",
        "identity;q=0, gzip",
        "identity;q=0.5, gzip;q=1",
        "identity;q=0,*",
        " gzip ",
        "*;q=0,gzip",
        "gzip , identity",
    ],
)
def test_gzip_for_who_accepts_it(accept_encoding):
    assert accepts_gzip(accept_encoding)


@pytest.mark.parametrize(
    "accept_encoding",
    [
        "",
        "identity",
        "deflate, br",
        "gzip;q=0",
        "gzip;q=0.000",
        "gzip;q=0,*",
        "*;q=0",
        "*,gzip;q=0",
        "identity;q=0",
        "identity;q=1, gzip;q=0.5",
        "*;q=0.5,identity",
        "gzipx",
        "gzip;q=x",
        "gzip;q=",
        "gzip;q=-1",
        ";",
        "x-gzip;q=0",
    ],
)
def test_no_gzip_for_who_refuses_it_or_does_not_say(accept_encoding):
    assert not accepts_gzip(accept_encoding)


HEADERISH = st.lists(
    st.sampled_from([OM, "text/plain", "text/*", "*/*", "gzip", "identity", "*", ",", ";", "=", '"', " ", "\t", "/"])
    | st.sampled_from([";q=0", ";q=1", ";q=0.5", ";q=", ";version=", "1.0.0", "0.0.1", "99999999999", "\u0661", "\x00"])
    | st.text(max_size=3),
    max_size=40,
).map("".join)


@given(HEADERISH)
def test_any_header_gets_an_answer(header):
    assert isinstance(choose_format(header), Format)
    assert isinstance(accepts_gzip(header), bool)


@given(HEADERISH)
def test_openmetrics_and_gzip_are_never_sent_to_who_did_not_name_or_allow_them(header):
    if OM not in header.lower():
        assert choose_format(header) is Format.TEXT
    if "gzip" not in header.lower() and "*" not in header:
        assert not accepts_gzip(header)


@given(st.permutations([(f"{OM};version=1.0.0", 5), ("text/plain", 3), ("application/json", 9), ("*/*", 7)]))
def test_order_does_not_matter_where_the_q_values_differ(ranges):
    assert choose_format(",".join(f"{name};q=0.{q}" for name, q in ranges)) is Format.OPENMETRICS


def test_a_header_as_long_as_a_server_lets_through_takes_no_time():
    assert choose_format(",;q=" * 250_000) is Format.TEXT
    assert not accepts_gzip('";,' * 300_000)
