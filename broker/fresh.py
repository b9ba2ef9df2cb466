"""Which alerts of a batch are new, and which their survey takes back; all are counted."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from broker.archive import Seen
from broker.steps import Batch
from broker.tally import Tally
from crossmatch.model import BoolArray


def sort_out(batch: Batch, nights: pa.Array, seen: Seen, tally: Tally) -> BoolArray:
    """Which alerts of a batch are neither repeats nor taken back already, (n,) bool.

    What was taken back stays so, whichever of the two came first. Under a number of another
    night comes no new alert: that one is counted apart.

    Parameters
    ----------
    batch : Batch
        With n alerts.
    nights : (n,) pyarrow.Array of string
    seen : Seen
    tally : Tally
        Takes the counts, of what was rejected or lost too.
    """
    alerts, feeds = batch.alerts, batch.alerts["topic"]
    tally.add_total("messages", batch.messages)
    tally.add_rows("received", nights, feeds)
    missing = {(f"rejected.{reason}", feed): n for (reason, feed), n in batch.rejected.items()}
    missing |= {("lost", feed): n for feed, n in batch.lost.items()}
    for (name, feed), n in missing.items():
        tally.add("received", "", feed, n)
        tally.add(name, "", feed, n)
    taken_back = is_withdrawn(alerts)
    same = np.where(taken_back, seen.withdrawn, seen.same_night) | _repeats(alerts, taken_back)
    other = ~same & ~taken_back & seen.other_night
    count("duplicate", nights, feeds, same, tally)
    count("duplicate_other_night", nights, feeds, other, tally)
    count("withdrawn", nights, feeds, taken_back & ~same, tally)
    fresh: BoolArray = ~same & ~other
    return fresh


def count(name: str, nights: Any, feeds: Any, which: BoolArray, tally: Tally) -> None:
    """Count the rows that ``which`` marks."""
    if which.any():
        rows = pa.array(np.flatnonzero(which))
        tally.add_rows(name, nights.take(rows), feeds.take(rows))


def is_withdrawn(alerts: pa.Table) -> BoolArray:
    """Rows that take an alert back."""
    column = alerts["withdrawn"].combine_chunks().fill_null(False)
    return np.asarray(column.to_numpy(zero_copy_only=False), np.bool_)


def _repeats(alerts: pa.Table, taken_back: BoolArray) -> BoolArray:
    """Alerts whose number stands earlier in the table, or is taken back in it."""
    ids = alerts["alert_id"].to_numpy()
    surveys = np.unique(np.asarray(alerts["survey"]), return_inverse=True)[1]
    repeat = np.ones(len(ids), np.bool_)
    for survey in np.unique(surveys):
        # Numbers are a survey's own.
        rows = np.flatnonzero(surveys == survey)
        order = rows[np.lexsort((rows, ~taken_back[rows], ids[rows]))]
        first = np.ones(len(order), np.bool_)
        first[1:] = ids[order][1:] != ids[order][:-1]
        repeat[order] = ~first
    return repeat
