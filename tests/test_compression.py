"""One gzip member out of pieces, which any client reads, and what did not change is not compressed again."""

from __future__ import annotations

import gzip
import random
import subprocess
import zlib

from hypothesis import given, settings
from hypothesis import strategies as st

from wg_exporter.web import compression
from wg_exporter.web.compression import LEAST, Compressor


def unpacked(chunks) -> bytes:
    """The content, if it is one member and nothing more."""
    data = b"".join(chunks)
    inflate = zlib.decompressobj(31)
    content = inflate.decompress(data) + inflate.flush()
    assert inflate.eof
    assert inflate.unused_data == b""
    assert gzip.decompress(data) == content
    return content


def lines(seed: int, size: int) -> bytes:
    source = random.Random(seed)
    text = b"".join(b'metric{peer="%d"} %d\n' % (n, source.getrandbits(40)) for n in range(size // 25 + 1))
    return text[:size]


bodies = st.lists(st.tuples(st.integers(0, 3), st.sampled_from([0, 1, 100, LEAST - 1, LEAST, 3 * LEAST])), max_size=8)


@settings(deadline=None)
@given(st.lists(bodies, min_size=1, max_size=4))
def test_what_comes_out_is_what_went_in_whatever_came_before(sequence):
    compressor, kept = Compressor(), {}
    for body in sequence:
        chunks = [kept.setdefault(part, lines(*part)) for part in body]
        assert unpacked(compressor.compress(chunks)) == b"".join(chunks)


def test_a_chunk_that_is_the_same_object_is_compressed_once_and_an_equal_one_again(monkeypatch):
    asked = []
    deflate = compression._deflate
    monkeypatch.setattr(compression, "_deflate", lambda plain: asked.append(plain) or deflate(plain))
    compressor = Compressor()
    one, two = lines(1, 2 * LEAST), lines(2, 2 * LEAST)
    compressor.compress([one, two])
    compressor.compress([one, b"# small\n", two])
    assert asked == [one, two, b"# small\n"]
    other = lines(2, 2 * LEAST)
    assert unpacked(compressor.compress([other, one])) == other + one
    assert asked[3:] == [other]


def test_what_is_no_longer_served_is_no_longer_kept():
    compressor = Compressor()
    for seed in range(50):
        compressor.compress([lines(seed, LEAST)])
    assert len(compressor._known) == 1


def test_pieces_cost_hardly_any_size():
    chunks = [lines(seed, 500_000) for seed in range(6)]
    whole = len(zlib.compress(b"".join(chunks), 1))
    assert sum(map(len, Compressor().compress(chunks))) < whole * 1.02


def test_gzip_itself_reads_it(tmp_path):
    content = [lines(seed, size) for seed, size in enumerate((10, 3 * LEAST, 70, 2 * LEAST))]
    packed = tmp_path / "body.gz"
    packed.write_bytes(b"".join(Compressor().compress(content)))
    assert subprocess.run(["gzip", "-dc", packed], check=True, capture_output=True).stdout == b"".join(content)
