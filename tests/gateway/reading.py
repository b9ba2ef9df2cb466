"""Messages read by the built-in feeds, or by feed files of a test."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from crossmatch.chains import DEFAULT_CHAINS
from crossmatch.model import Notice
from gateway.feeds import Registry, load_feeds
from gateway.understand import Understood, understand

FEEDS = load_feeds()


def read(raw: bytes, registry: Registry = FEEDS, **where: str) -> Understood:
    return understand(registry, DEFAULT_CHAINS, raw, **where)


def notice(table: dict[str, Any], registry: Registry = FEEDS, **where: str) -> Notice:
    found = read(json.dumps(table).encode(), registry, **where)
    assert found.notice is not None, found
    return found.notice


def with_files(tmp_path: Path, **files: str) -> Registry:
    for name, text in files.items():
        (tmp_path / f"{name}.toml").write_text(text)
    return load_feeds([tmp_path])
