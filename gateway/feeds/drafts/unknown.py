"""Messages that no feed knows: counted by what they say of themselves, a few kept as samples.

Under ``<state>/feeds/unknown`` lie ``counts.json`` and the samples, for the owner's eyes
alone: nobody has said yet who may see them.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Literal

from crossmatch.errors import NoticeError, ServiceError
from gateway.feeds.parsers.strictjson import load_object
from gateway.logs import EventLog
from gateway.reports import NoticeReport
from gateway.runfiles import make_state
from voevents.parse import parse_voevent

log = EventLog("listen")

MAX_KINDS = 200
MAX_SAMPLES = 3
MAX_SAMPLE_BYTES = 256 * 1024
MAX_TOTAL_BYTES = 32 * 1024 * 1024
WRITE_SECONDS = 10.0
_MAX_SIGN = 300

Form = Literal["voevent", "json", "other"]


@dataclass(frozen=True, slots=True)
class Sign:
    """What a message says of itself: the IVOID up to its ``#``, ``$schema``, or its members."""

    form: Form
    text: str
    packet_type: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Stranger:
    """One kind of message that no feed knows.

    ``source`` is ``kafka``, ``vtp`` or ``folder``; ``first`` and ``last`` are ISO 8601 UTC;
    ``samples`` name files of at most ``MAX_SAMPLE_BYTES`` each, ``sizes`` their bytes.
    """

    source: str
    topic: str
    sign: Sign
    count: int
    first: str
    last: str
    samples: tuple[str, ...] = ()
    sizes: tuple[int, ...] = ()

    @property
    def key(self) -> tuple[str, str, Sign]:
        """What makes two messages one kind."""
        return self.source, self.topic, self.sign


def sign_of(raw: bytes) -> Sign:
    """What a message says of itself; ``other`` when it cannot be read."""
    try:
        if raw[:64].removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"<"):
            packet = parse_voevent(raw)
            return Sign("voevent", _stream_of(packet.ivoid)[:_MAX_SIGN], packet.packet_type)
        record = load_object(raw)
    except NoticeError:
        return Sign("other", "")
    schema = record.get("$schema")
    members = ", ".join(sorted(record))
    return Sign("json", (schema if isinstance(schema, str) and schema else members)[:_MAX_SIGN])


def _stream_of(ivoid: str) -> str:
    stream, mark, _ = ivoid.partition("#")
    if mark:
        return stream
    # Without a fragment the last parts may number the event.
    return "/".join(ivoid.split("/")[:4])


class Unknown:
    """Observer that counts messages which no feed knows.

    Parameters
    ----------
    state : Path
        ``[paths] state``.

    Notes
    -----
    What is counted is written at most every ``WRITE_SECONDS`` of the reports' clock, and by
    :meth:`flush`; samples at once. When the disk refuses, counting goes on and the log says so.
    """

    def __init__(self, state: Path) -> None:
        self._folder = _folder(state)
        self._kinds = {s.key: s for s in _read_counts(self._folder)}
        self._bytes = sum(sum(s.sizes) for s in self._kinds.values())
        self._changed = False
        self._written: datetime | None = None

    def __call__(self, report: NoticeReport) -> None:
        """Count the message if no feed knows it."""
        if report.reason != "no_feed" or report.feed or not report.raw:
            return
        source = report.source.partition(":")[0]
        key = (source, report.topic, sign_of(report.raw))
        heard = report.received.astimezone(UTC).isoformat(timespec="seconds")
        known = self._kinds.get(key)
        if known is None:
            self._make_room()
            known = Stranger(
                source=source, topic=report.topic, sign=key[2], count=0, first=heard, last=heard
            )
        known = replace(known, count=known.count + 1, last=max(known.last, heard))
        self._kinds[key] = self._with_sample(known, report.raw)
        self._changed = True
        if self._written is None or (
            (report.finished - self._written).total_seconds() >= WRITE_SECONDS
        ):
            self._written = report.finished
            self.flush()

    def flush(self) -> None:
        """Write what is not written yet."""
        if self._changed and self._try(self._write_counts):
            self._changed = False

    def _write_counts(self) -> None:
        rows = [asdict(s) for s in self._kinds.values()]
        _write(self._folder, "counts.json", json.dumps(rows, indent=1).encode())

    def _with_sample(self, known: Stranger, raw: bytes) -> Stranger:
        name = f"{sha256(raw).hexdigest()[:16]}.raw"
        if (
            len(known.samples) >= MAX_SAMPLES
            or name in known.samples
            or len(raw) > MAX_SAMPLE_BYTES
            or self._bytes + len(raw) > MAX_TOTAL_BYTES
        ):
            return known
        if not self._try(lambda: _write(self._folder, name, raw)):
            return known
        self._bytes += len(raw)
        return replace(known, samples=(*known.samples, name), sizes=(*known.sizes, len(raw)))

    def _make_room(self) -> None:
        """Forget the kind that was heard least when there are too many."""
        if len(self._kinds) < MAX_KINDS:
            return
        key = min(self._kinds, key=lambda k: (self._kinds[k].count, self._kinds[k].last))
        gone = self._kinds.pop(key)
        self._bytes -= sum(gone.sizes)
        others = {name for s in self._kinds.values() for name in s.samples}
        for name in set(gone.samples) - others:
            self._try(partial((self._folder / name).unlink, missing_ok=True))

    def _try(self, write: Callable[[], None]) -> bool:
        # An observer must not stop the pipeline.
        try:
            write()
        except OSError as error:
            log.warning("unknown_not_kept", folder=self._folder, detail=error.strerror)
            return False
        return True


def read_unknown(state: Path) -> list[Stranger]:
    """Kinds of message that no feed knew, the most frequent first."""
    return sorted(_read_counts(_folder(state)), key=lambda s: (-s.count, s.key[:2], s.sign.text))


def samples_of(state: Path, stranger: Stranger) -> list[bytes]:
    """Bytes of the samples of one kind, as far as they are still there.

    Raises
    ------
    ServiceError
        When one cannot be read.
    """
    found = []
    for name in stranger.samples:
        path = _folder(state) / Path(name).name
        try:
            found.append(path.read_bytes())
        except FileNotFoundError:
            continue
        except OSError as error:
            raise ServiceError(f"{path}: cannot be read: {error.strerror}") from error
    return found


def _folder(state: Path) -> Path:
    return state / "feeds" / "unknown"


def _read_counts(folder: Path) -> list[Stranger]:
    path = folder / "counts.json"
    try:
        rows = json.loads(path.read_text("utf-8"))
        return [
            Stranger(
                **row
                | {
                    "sign": Sign(**row["sign"]),
                    "samples": tuple(row["samples"]),
                    "sizes": tuple(row["sizes"]),
                }
            )
            for row in rows
        ]
    except FileNotFoundError:
        return []
    except (ValueError, TypeError, KeyError) as error:
        # Only counts: they begin anew.
        log.warning("unknown_damaged", file=path, detail=str(error))
        return []
    except OSError as error:
        raise ServiceError(f"{path}: cannot be read: {error.strerror}") from error


def _write(folder: Path, name: str, data: bytes) -> None:
    make_state(folder.parent.parent)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=folder, prefix=".")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
        os.replace(temporary, folder / name)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
