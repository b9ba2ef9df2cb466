"""Feeds: the streams of notices, each described by one TOML file.

``load_feeds(folders)`` gives a ``Registry``; ``Registry.parse(raw)`` gives a
``Notice``, or ``Ignored`` for what is no notice of an event, or raises ``NoticeError``.
"""

from gateway.feeds.message import Ignored, Message
from gateway.feeds.registry import Registry, load_feeds
from gateway.feeds.spec import Feed

__all__ = ["Feed", "Ignored", "Message", "Registry", "load_feeds"]
