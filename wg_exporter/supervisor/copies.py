"""Open files that are handed to the exporter: what is in them may be a private key, which the kernel copies, not we."""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING

from wg_exporter.config.tree import Problem
from wg_exporter.config.web import WebConfigError
from wg_exporter.messages.packets import close_all
from wg_exporter.messages.supervisor import WebMaterial

if TYPE_CHECKING:
    from wg_exporter.web.files import WebFiles

MOST_BYTES = 1 << 20  # of a certificate or a key
MOST_PROBLEMS = 50  # lines about a configuration, which all go into one packet
PAIR = ("cert", "key")  # files of the web configuration that are written one after the other


def holding(data: bytes) -> int:
    """An open file with this in it."""
    file = os.memfd_create("handed over", os.MFD_CLOEXEC)
    os.write(file, data)
    return file


def copy(path: str) -> int:
    """An open file with what is at `path`. Raises OSError."""
    source = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        if not stat.S_ISREG(os.fstat(source).st_mode):
            raise OSError(errno.EINVAL, "not a regular file", path)
        file = holding(b"")
        while os.sendfile(file, source, None, MOST_BYTES):
            if os.fstat(file).st_size >= MOST_BYTES:
                break
        return file
    finally:
        os.close(source)


def web_material(web_files: WebFiles) -> tuple[WebMaterial, list[int]]:
    """The web configuration as it is now, to be handed over with these open files."""
    files: list[int] = []
    pair = False
    try:
        material = web_files.read()
        files.append(holding(material.text.encode()))
        for name, path in material.files.items():
            pair = name in PAIR
            files.append(copy(path))
    except WebConfigError as error:
        return WebMaterial((), error.problems[:MOST_PROBLEMS]), []
    except OSError as error:
        kept = 1 if pair else 0
        close_all(files[kept:])
        problem = Problem(web_files.where, f"{error.filename}: {error.strerror}", "correct the path")
        return WebMaterial((), (problem,)), files[:kept]
    return WebMaterial(tuple(material.files)), files
