"""Write docs/configuration.md and docs/web-configuration.md from the structs that read both, so that they can't
disagree.

The words about a setting stand beside its field in wg_exporter/config/. With `--check` nothing is written, and the
exit code is 1 if the page is not what it should be.
"""

from __future__ import annotations

import argparse
import inspect
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec.inspect as mi

if TYPE_CHECKING:
    from collections.abc import Iterator

DOCS = Path(__file__).resolve().parent
sys.path.insert(0, str(DOCS.parent))  # the sources beside this page, not a version that happens to be installed

from wg_exporter.config import Config  # noqa: E402  after the path is set
from wg_exporter.config.fields import duration  # noqa: E402
from wg_exporter.config.web import CIPHERS, CURVES, HEADERS, WebConfig  # noqa: E402

PAGE = DOCS / "configuration.md"
WEB_PAGE = DOCS / "web-configuration.md"
EXAMPLE = DOCS / "config.example.yml"

HEAD = """\
<!-- Written by docs/generate_configuration.py from wg_exporter/config/. Do not edit by hand. -->
# Configuration

No configuration is needed. With `--config.file=FILE`, a YAML file says what to leave out, where else to look, what
peers are called, which of them should always be up and how they are probed. SIGHUP reads it again: a file with a
mistake changes nothing.

- Every mistake is reported in one go, one line each, with file, line, key path and what to write instead; the exit
  code is 2. Unknown and repeated keys are mistakes. Nothing is converted: `name: 123` and `name: no` need quotes.
  A value that looks like a key is never shown.
- An entry that matches nothing on the host (a pattern for interfaces or files, a peer, a rule under `expect`) is a
  warning: once in the log, and on the page at `/` as long as it has never matched.
- Patterns are those of a shell (`*`, `?`, `[abc]`), and upper and lower case differ.
- Anchors and aliases may be used, merge keys (`<<`) may not. A file has at most 1 MiB.
- Private and preshared keys have no place in this file.

## Example

```yaml
{example}```

## Reference

"""


WEB_HEAD = """\
<!-- Written by docs/generate_configuration.py from wg_exporter/config/web.py. Do not edit by hand. -->
# TLS and passwords

`--web.config.file=FILE` is the file that all Prometheus exporters share: what works for node_exporter works here, and
`promtool check web-config FILE` checks it too. [`wg-exporter check`](check.md) says more: when the certificate
ends, and who can read the key.

    apt install apache2-utils        # has htpasswd
    install -d /etc/wg-exporter && cd /etc/wg-exporter
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 3650 -subj /CN=gw1 \\
        -addext subjectAltName=DNS:gw1.example.org,IP:10.0.0.1 -keyout web.key -out web.crt
    htpasswd -nBC 10 prometheus      # asks for a password, and prints the line for basic_auth_users below

`web.yml`, beside them:

```yaml
tls_server_config:
  cert_file: web.crt
  key_file: web.key
basic_auth_users:
  prometheus: $2y$10$...
```

    chmod 600 web.yml web.key
    $EDITOR /etc/default/wg-exporter      # ARGS="--web.config.file=/etc/wg-exporter/web.yml", beside other flags
    systemctl restart wg-exporter

Copy `web.crt`, which is no secret, to the host of Prometheus, write the password into a file that only Prometheus can
read, and name both in its configuration:

```yaml
scrape_configs:
  - job_name: wireguard
    scheme: https
    tls_config: {{ca_file: /etc/prometheus/web.crt}}
    basic_auth: {{username: prometheus, password_file: /etc/prometheus/wireguard.password}}
    static_configs: [{{targets: ["gw1.example.org:9586"]}}]
```

- It concerns TCP alone. The Unix socket, which only its owner may use, is as before.
- All files are looked at every 2 seconds, and used when they have changed: certificates are renewed and passwords
  changed without a restart. Connections are asked for their password with each request. After a certificate was
  renewed each ends with its next answer; where TLS or certificates of clients are concerned, at once.
- A mistake at the start is exit code 2, with a line for each. While the exporter runs, a file with a mistake makes
  every request over TCP fail with 500, and the log says why: to go on as before would keep a password in use that was
  taken away. So does an empty file, which would let everybody in; `{{}}` is one that is meant.
- A certificate and its key that are replaced one after the other cost no request: while they are no pair, or one is
  missing, the pair before stays in use for up to 10 seconds. Passwords that changed meanwhile hold at once.
- The files may be root's alone (0600). Where the exporter is several processes, the one that answers has no right to
  open them: they are handed to it as open files, and the key is in no other process.
- A wrong password, one of more than 72 bytes (all that bcrypt looks at) and an unknown user take the same time and get
  401. Right ones are remembered, as a hash takes a tenth of a second; few are checked at a time, and more get 429.
- Whoever listens on all addresses without TLS or without a password is told so once, at the start.

## Reference

"""

WEB_TAIL = """\

Cipher suites: {ciphers}. Those of TLS 1.3 can't be chosen.

Curves: {curves}.

Headers that can be set: {headers}.

`RequireAnyClientCert` is refused: a certificate that nobody verifies proves nothing.
"""


def page() -> str:
    """The whole text of docs/configuration.md."""
    root = mi.type_info(Config)
    assert isinstance(root, mi.StructType)  # noqa: S101  for the type checker
    return "".join([HEAD.format(example=EXAMPLE.read_text()), _table(root), *_sections(root, "")])


def web_page() -> str:
    """The whole text of docs/web-configuration.md."""
    root = mi.type_info(WebConfig)
    assert isinstance(root, mi.StructType)  # noqa: S101  for the type checker
    ciphers, curves, headers = (", ".join(f"`{name}`" for name in names) for names in (CIPHERS, CURVES, HEADERS))
    tail = WEB_TAIL.format(ciphers=ciphers, curves=curves, headers=headers)
    return "".join([WEB_HEAD.format(), _table(root), *_sections(root, ""), tail])


def _sections(struct: mi.StructType, path: str) -> Iterator[str]:
    """The sections in a struct and, after each, those in it."""
    for field in struct.fields:
        section, is_list = _section(field.type)
        if section:
            title = f"{path}{field.encode_name}" + "[]" * is_list
            yield f"\n### `{title}`\n\n{inspect.getdoc(section.cls)}\n\n{_table(section)}"
            yield from _sections(section, f"{title}.")


def _table(struct: mi.StructType) -> str:
    rows = ["| key | type | default | meaning |", "|---|---|---|---|"]
    for field in struct.fields:
        cells = (f"`{field.encode_name}`", _type(field.type), _default(field), _schema(field.type)["description"])
        rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(rows) + "\n"


def _section(kind: mi.Type) -> tuple[mi.StructType | None, bool]:
    """The struct that a field holds, or a list of which it holds."""
    kind = _bare(kind)
    is_list = isinstance(kind, mi.VarTupleType)
    item = _bare(kind.item_type) if isinstance(kind, mi.VarTupleType) else kind
    if isinstance(item, mi.UnionType):
        item = next(_bare(part) for part in item.types if not isinstance(part, mi.NoneType))
    return (item if isinstance(item, mi.StructType) else None), is_list


def _bare(kind: mi.Type) -> mi.Type:
    while isinstance(kind, mi.Metadata):
        kind = kind.type
    return kind


def _schema(kind: mi.Type) -> dict[str, Any]:
    return (kind.extra_json_schema or {}) if isinstance(kind, mi.Metadata) else {}


def _type(kind: mi.Type) -> str:
    if "title" in _schema(kind):
        return str(_schema(kind)["title"])
    match _bare(kind):
        case mi.UnionType(types=types):
            return next(_type(part) for part in types if not isinstance(part, mi.NoneType))
        case mi.VarTupleType(item_type=item) if isinstance(_bare(item), mi.StructType):
            return "list, see below"
        case mi.VarTupleType(item_type=item):
            return f"list: {_type(item)}"
        case mi.StructType():
            return "see below"
        case mi.DictType():
            return "names and values"
        case mi.StrType():
            return "string"
        case mi.IntType():
            return "number"
        case mi.BoolType():
            return "`true`, `false`"
        case mi.EnumType(cls=words):
            return ", ".join(f"`{word.value}`" for word in words)
        case other:
            raise TypeError(f"no words for {other}: give the type a title")


def _default(field: mi.Field) -> str:
    if field.required:
        return "required"
    value = field.default
    if value is None or value is mi.NODEFAULT or isinstance(_bare(field.type), mi.StructType):
        return ""
    if isinstance(value, tuple | bool):
        return f"`{json.dumps(value)}`"
    if _type(field.type).startswith("duration"):
        return f"`{duration(value)}`"
    return f"`{value}`"


def main() -> int:
    """Write the page, or check it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if the page is stale")
    check = parser.parse_args().check
    stale = False
    for place, text in ((PAGE, page()), (WEB_PAGE, web_page())):
        if not check:
            place.write_text(text)
        elif not place.exists() or place.read_text() != text:
            sys.stderr.write(f"{place} is stale: run {Path(__file__).name}\n")
            stale = True
    return int(stale)


if __name__ == "__main__":
    sys.exit(main())
