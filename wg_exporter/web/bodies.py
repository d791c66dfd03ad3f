"""Bodies that take time: each is made once for all who ask for it meanwhile.

A scrape runs in a worker thread, and everybody who asks for the same page gets its bytes. So twenty scrapers cost one
read, and a stuck read is not started twice. Bodies stay in the chunks they came in, because at 10,000 peers a copy has
21 MB.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from wg_exporter.log import Log
from wg_exporter.web.compression import Compressor
from wg_exporter.web.negotiation import accepts_gzip
from wg_exporter.web.response import Body, Response
from wg_exporter.web.routes import line

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Mapping

    from wg_exporter.web.http import Request

WORKERS = 2  # one thread renders and one compresses; more would only wait for the interpreter's lock

Made = TypeVar("Made")

Make = Callable[[], Awaitable[Sequence[bytes]]]
"""Makes the chunks of a body."""


class NotKnownError(Exception):
    """What was asked for is not known at the moment: one line that says why."""


class _Job(NamedTuple):
    """A body that is made once for all who ask meanwhile: of which page, and in which of its variants."""

    page: str
    variant: Hashable
    gzip: bool


class _Failed(NamedTuple):
    """What those who wait for a body get instead."""

    status: int
    line: str


class _FailedError(Exception):
    """A part of a body could not be made."""

    def __init__(self, failed: _Failed) -> None:
        super().__init__(failed.line)
        self.failed = failed


class Bodies:
    """Makes bodies in worker threads, from when it is made until `close`. Call it in the event loop."""

    def __init__(self, pages: Iterable[str], seconds: float, workers: int = WORKERS) -> None:
        """`pages` are those of which most bytes are as they were before, and are not compressed again. After `seconds`
        nobody waits for a body any more.
        """
        self._seconds = seconds
        self._log = Log(__name__)
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="scrape")
        self._compressors = {page: Compressor() for page in pages}
        self._under_way: dict[_Job, asyncio.Task[Body | _Failed]] = {}
        self._problems: dict[str, str] = {}  # the last failure of each page, while it lasts

    def close(self) -> None:
        """Begin nothing more."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def in_pool(self, make: Callable[[], Made]) -> Made:
        """Call it in a worker thread."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, make)

    async def share(self, page: str, make: Make) -> bytes:
        """What `make` makes in one chunk, once for all who ask meanwhile, as a part of other bodies. Raises what stands
        for its failure, for a `make` of those.
        """
        found = await self._body(_Job(page, None, gzip=False), make)
        if isinstance(found, _Failed):
            raise _FailedError(found)
        return b"".join(found.chunks)

    async def answer(
        self, request: Request, page: str, variant: Hashable, make: Make, headers: Mapping[str, str]
    ) -> Response:
        """The body that `make` makes, or that is being made of this variant of the page already; compressed for those
        who want that.
        """
        gzip = accepts_gzip(request.header("Accept-Encoding"))
        try:
            async with asyncio.timeout(self._seconds):
                body = await self._body(_Job(page, variant, gzip), make)
        except TimeoutError:
            self._report("scrape does not end", page, None)
            return line(503, "the scrape does not end; a source of the host is stuck\n")
        if isinstance(body, _Failed):
            return line(body.status, body.line)
        return Response(200, {**headers, "Content-Encoding": "gzip"} if gzip else headers, body)

    async def _body(self, job: _Job, make: Make) -> Body | _Failed:
        """The body, or why there is none. All who ask while it is made share it; any of them may leave."""
        making = self._under_way.get(job)
        if making is None:
            making = self._under_way[job] = asyncio.create_task(self._made(job, make))
            making.add_done_callback(lambda _: self._under_way.pop(job))
        return await asyncio.shield(making)

    async def _made(self, job: _Job, make: Make) -> Body | _Failed:
        chunks: Sequence[bytes]
        try:
            if job.gzip:
                plain = await self._body(job._replace(gzip=False), make)
                if isinstance(plain, _Failed):
                    return plain
                compressor = self._compressors.get(job.page) or Compressor()  # a document is another each time
                chunks = await self.in_pool(partial(compressor.compress, plain.chunks))
            else:
                chunks = await make()
            body = Body(tuple(chunks), sum(map(len, chunks)))
        except _FailedError as error:
            return error.failed
        except NotKnownError as error:
            return _Failed(503, f"{error}\n")
        except Exception as error:  # noqa: BLE001 - whatever a scrape raises, the server goes on
            self._report("scrape failed", job.page, error)
            return _Failed(500, "the scrape failed; the log of wg-exporter says why\n")
        self._problems.pop(job.page, None)
        return body

    def _report(self, event: str, page: str, error: Exception | None) -> None:
        """Log a failure once, until a scrape of the page succeeds or fails in another way."""
        problem = f"{event}: {type(error).__name__}: {error}"
        if self._problems.get(page) != problem:
            self._problems[page] = problem
            self._log.error(event, exc=error, page=page)
