"""What the pages for dashboards of other exporters show: the section `compat`."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct


def _text(description: str) -> Meta:
    return Meta(description=description)


class MindFlavor(Struct, frozen=True, forbid_unknown_fields=True):
    """Labels on `/metrics/mindflavor`. The names are those of that exporter's own options."""

    export_remote_ip_and_port: Annotated[
        bool,
        _text(
            "Its `-r`: labels `remote_ip` and `remote_port`, as far as `metrics.endpoint` allows. Each move of a peer "
            "starts new series."
        ),
    ] = False
    separate_allowed_ips: Annotated[
        bool,
        _text(
            "Its `-s`: instead of `allowed_ips`, labels `allowed_ip_0`, `allowed_subnet_0`, `allowed_ip_1` and so on."
        ),
    ] = False
    friendly_json: Annotated[
        bool,
        _text(
            "A label for each key of a peer's `friendly_json` comment. If it has a `name`, there is no `friendly_name`."
        ),
    ] = True


class Compat(Struct, frozen=True, forbid_unknown_fields=True):
    """What the pages for dashboards of other exporters show; docs/compatibility.md has the pages."""

    mindflavor: Annotated[MindFlavor, _text("Labels on `/metrics/mindflavor`.")] = MindFlavor()
