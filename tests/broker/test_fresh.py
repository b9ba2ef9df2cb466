"""New alerts, repeats, and alerts that are taken back."""

from __future__ import annotations

from collections import Counter

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from broker import ledger
from broker.archive import night_of
from broker.fresh import sort_out
from broker.steps import Batch
from broker.tally import Tally

from .conftest import MemoryArchive, alert, alerts

ROWS = st.lists(
    st.tuples(
        st.integers(0, 3), st.booleans(), st.integers(0, 1), st.sampled_from(("ztf", "lsst"))
    ),
    max_size=6,
)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.lists(ROWS, max_size=4))
def test_an_alert_is_new_once_and_never_after_it_was_taken_back(batches):
    """Against a naive reading of the rules, batch after batch."""
    archive, known, gone = MemoryArchive(), {}, set()
    for number, batch in enumerate(batches):
        rows = [
            alert(i, 1.0, 2.0, days=0.2 + day, survey=survey, withdrawn=taken_back or None)
            for i, taken_back, day, survey in batch
        ]
        table, tally = alerts(rows), Tally()
        nights = night_of(table["time_jd"])
        given = Batch(number, table)
        new = sort_out(given, nights, archive.seen(table, number), tally).tolist()

        expected, counts = [], Counter(received=len(rows))
        # In one batch taking back comes first.
        order = sorted(range(len(rows)), key=lambda i: not rows[i]["withdrawn"])
        outcome = {}
        here = set()
        for i in order:
            row, night = rows[i], nights[i].as_py()
            name = row["survey"], row["alert_id"]
            if name in here:
                outcome[i] = "duplicate"
            elif row["withdrawn"]:
                outcome[i] = "duplicate" if name in gone else "withdrawn"
            elif night in known.get(name, ()):
                outcome[i] = "duplicate"
            elif name in known:
                outcome[i] = "duplicate_other_night"
            else:
                outcome[i] = "new"
            here.add(name)
        for i in range(len(rows)):
            expected.append(outcome[i] in ("new", "withdrawn"))
            counts[outcome[i]] += outcome[i] != "new"
            if expected[-1]:
                name = rows[i]["survey"], rows[i]["alert_id"]
                known.setdefault(name, set()).add(nights[i].as_py())
                if rows[i]["withdrawn"]:
                    gone.add(name)
        assert new == expected
        assert tally.counts() == {k: v for k, v in sorted(counts.items()) if v}
        hole = ledger.alert_hole(tally.counts())
        assert hole == sum(n for n, row in zip(new, rows, strict=True) if not row["withdrawn"])
        archive.append(table.filter(pa.array(new, pa.bool_())), number)


def test_rejected_and_lost_alerts_are_received_and_counted_by_feed():
    tally, none = Tally(), alerts([])
    batch = Batch(0, none, rejected={("bad", "a"): 2, ("bad", "b"): 1}, lost={"c": 4}, messages=5)
    sort_out(batch, night_of(none["time_jd"]), MemoryArchive().seen(none, 0), tally)
    assert tally.counts() == {"lost": 4, "messages": 5, "received": 7, "rejected.bad": 3}
    assert [part["feed"] for part in tally.parts()] == ["a", "b", "c"]
    assert ledger.alert_hole(tally.counts()) == 0
