"""Certificates for tests, made by openssl."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def certificate(directory: Path, name: str, signed_by: str = "", *, address: bool = True) -> None:
    """NAME.crt and NAME.key, valid for localhost, as a name for NAME and, unless without `address`, for 127.0.0.1."""
    command = ["openssl", "req", "-x509", "-nodes", "-days", "2", "-subj", f"/CN={name}"]
    command += ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
    command += ["-keyout", f"{name}.key", "-out", f"{name}.crt"]
    command += ["-addext", f"subjectAltName=DNS:localhost,DNS:{name}" + ",IP:127.0.0.1" * address]
    if signed_by:
        command += ["-CA", f"{signed_by}.crt", "-CAkey", f"{signed_by}.key"]
    subprocess.run(command, cwd=directory, check=True, capture_output=True)
