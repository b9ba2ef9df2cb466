"""Structured log events: a short name and fields, one logfmt line each.

``log.info("notice_rejected", feed="fermi_gbm", reason="broken_xml")`` writes
``2017-08-17T12:41:20.000Z level=info service=listen event=notice_rejected feed=fermi_gbm …``
to standard error, which the supervisor keeps in a file.
"""

from __future__ import annotations

import logging
import re
import sys
import time
from typing import Any, TextIO

_ROOT = "mmgateway"
_NEEDS_QUOTES = re.compile(r'[\s="\\]|^$')
# A field with such a name never shows its value, whoever passes it.
_SECRET = re.compile(r"secret|password|passwd|token|credential|sasl", re.IGNORECASE)


def logfmt(**fields: Any) -> str:
    """``key=value`` pairs on one line; text is quoted where it must be, secrets are masked.

    Examples
    --------
    >>> logfmt(feed="swift", detail="no position", client_secret="abc", offset=3)
    'feed=swift detail="no position" client_secret=*** offset=3'
    """
    return " ".join(f"{key}={_value(key, value)}" for key, value in fields.items())


def _value(key: str, value: Any) -> str:
    if _SECRET.search(key):
        return "***"
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return f"{value:.6g}"
    text = value.isoformat() if hasattr(value, "isoformat") else str(value)
    if _NEEDS_QUOTES.search(text) or not text.isprintable():
        # One event is one line, whatever a packet put into its name.
        escaped = text.encode("unicode_escape").decode("ascii").replace('"', '\\"')
        return f'"{escaped}"'
    return text


class EventLog:
    """Log of one service.

    Parameters
    ----------
    service : str
        Stands in every line as ``service=``.
    """

    def __init__(self, service: str) -> None:
        self._service = service
        self._logger = logging.getLogger(f"{_ROOT}.{service}")

    def info(self, event: str, **fields: Any) -> None:
        """Something happened as it should."""
        self._emit(logging.INFO, event, fields)

    def warning(self, event: str, **fields: Any) -> None:
        """Something was wrong outside; the service goes on."""
        self._emit(logging.WARNING, event, fields)

    def error(self, event: str, *, exc_info: bool = False, **fields: Any) -> None:
        """Something failed; with ``exc_info`` the stack trace follows."""
        self._emit(logging.ERROR, event, fields, exc_info)

    def _emit(self, level: int, event: str, fields: dict[str, Any], exc_info: bool = False) -> None:
        if self._logger.isEnabledFor(level):
            line = logfmt(service=self._service, event=event, **fields)
            self._logger.log(level, "%s", line, exc_info=exc_info)


class _Lines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line = f"{stamp}.{int(record.msecs):03d}Z level={record.levelname.lower()} "
        line += record.getMessage()
        if record.exc_info:
            line += "\n" + self.formatException(record.exc_info)
        return line


def start_logging(stream: TextIO | None = None, level: int = logging.INFO) -> logging.Handler:
    """Write the events of all services to ``stream`` (standard error); returns the handler."""
    handler = logging.StreamHandler(sys.stderr if stream is None else stream)
    handler.setFormatter(_Lines())
    root = logging.getLogger(_ROOT)
    for old in list(root.handlers):
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(level)
    root.propagate = False
    return handler
