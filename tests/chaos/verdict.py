"""Reads everything again from its beginning, as somebody who comes afterwards, and judges it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deltalake import DeltaTable

from broker import kafka_io, topics
from broker.codec import decode
from broker.kafka_io import Record

from . import checks
from .checks import Check
from .killer import Shot
from .listening import CANDIDATES, TRANSACTIONAL, cut
from .outside import ALERT_TOPIC
from .quiet import Quiet
from .stack import Stack
from .truth import batch_answer, decoded

_TABLE_SECONDS = 60.0


@dataclass(frozen=True)
class Verdict:
    """All checks, and the messages of transactions that never became visible."""

    checks: list[Check]
    statements: int
    cut_messages: int
    cut_transactions: int

    @property
    def ok(self) -> bool:
        """Whether every check holds."""
        return all(check.ok for check in self.checks)


def judge(stack: Stack, quiet: Quiet, shots: list[Shot]) -> Verdict:
    """Compare what lies on the topics with what was sent.

    Parameters
    ----------
    stack : Stack
    quiet : Quiet
        Whether it was waited long enough.
    shots : list of Shot
        Each is told how many messages its kill cut off.
    """
    read = {name: _read(stack, name) for name in (*TRANSACTIONAL, topics.NOTICES, ALERT_TOPIC)}
    records = [r for name in CANDIDATES for r in read[name]]
    said = [decode(r.value) for r in records]
    told = stack.outside.told
    expected = batch_answer(stack.config, told.notices, told.packets)
    alerts = decoded(told.packets).num_rows
    # What is no alert is rejected each time that it comes: no repeat to the ledger.
    garbage = sum(r.value in told.garbage for r in read[ALERT_TOPIC])
    found = [
        Check("everything was worked through", not quiet.missing, _sentence(quiet)),
        checks.check_answer(said, expected),
        checks.check_statements(said),
        checks.check_voevents(said, read[topics.VOEVENTS], stack.config.publish.author_ivo),
        checks.check_vtp(read[topics.VOEVENTS], stack.robot.connections, _log(stack.state)),
        checks.check_ledger(
            checks.ledger_entries(read[topics.LEDGER]),
            len(read[ALERT_TOPIC]),
            alerts + garbage,
            len(read[topics.NOTICES]),
            len(said),
        ),
        *_reader_checks(stack, read),
        *checks.check_tables(
            _column(stack.state / "alerts", "alert_id"),
            alerts,
            _candidate_ids(stack.state, len(said)),
            said,
        ),
    ]
    committed = [r for name in TRANSACTIONAL for r in read[name]]
    lost = cut(list(stack.tail.seen), committed)
    _blame(shots, lost)
    return Verdict(found, len(said), len(lost), sum(bool(s.cut) for s in shots))


def _reader_checks(stack: Stack, read: dict[str, list[Record]]) -> list[Check]:
    def of(names: tuple[str, ...]) -> tuple[list[Record], list[Record]]:
        live = [r for name in names for r in stack.witness.records[name]]
        return live, [r for name in names for r in read[name]]

    return [
        checks.check_reader(*of(CANDIDATES), "candidates"),
        checks.check_reader(*of((topics.VOEVENTS,)), "VOEvents"),
    ]


def _blame(shots: list[Shot], lost: list[Any]) -> None:
    """Who wrote what never became visible was killed next."""
    for message in lost:
        suspects = [s for s in shots if s.target.service in (message.owner, "kafka")]
        later = [s for s in suspects if s.at > message.written - 0.1]
        # Without its JVM the matcher may write a little more before it gives up.
        guilty = later[:1] or suspects[-1:]
        for shot in guilty:
            shot.cut += 1


def _sentence(quiet: Quiet) -> str:
    if quiet.missing:
        return f"after {quiet.seconds:.0f} s: " + ", ".join(quiet.missing)
    return f"{quiet.seconds:.0f} s after the last was sent"


def _read(stack: Stack, topic: str) -> list[Record]:
    return list(kafka_io.read_all(stack.bootstrap, {}, topic, timeout=60))


def _column(table: Path, name: str) -> list[Any]:
    if not DeltaTable.is_deltatable(str(table)):
        return []
    rows = DeltaTable(str(table)).to_pyarrow_table(columns=[name])
    values: list[Any] = rows[name].to_pylist()
    return values


def _candidate_ids(state: Path, wanted: int) -> list[Any]:
    """The table follows the topics: it may take a moment."""
    limit = time.monotonic() + _TABLE_SECONDS
    while len(found := _column(state / "candidates", "candidate_id")) < wanted:
        if time.monotonic() > limit:
            break
        time.sleep(0.5)
    return found


def _log(state: Path) -> str:
    logs = sorted((state / "logs").glob("publish.log*"), reverse=True)
    return "\n".join(path.read_text("utf-8", "replace") for path in logs)
