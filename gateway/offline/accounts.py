"""Whether the ledger adds up, and if not, where the hole is.

Everything here is arithmetic on what :mod:`gateway.offline.evidence` read. The gateway may
run meanwhile: the entries that were there first are the mark, and what is compared with them
was read after them and is cut off at them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from typing import Any

from broker import ledger
from broker.codec import from_iso

Entry = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Hole:
    """One thing that does not add up: what kind, in a sentence, of which night and feed."""

    check: str
    sentence: str
    number: int
    night: str = ""
    feed: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Evidence:
    """What was read to check the ledger; None: it could not be read, and is not checked.

    Parameters
    ----------
    entries : sequence of mapping
        Entries of the ledger in their order: the mark.
    newer : sequence of mapping
        Entries that came while the rest was read.
    unreadable : sequence of int
        Offsets of messages on ``mm.ledger`` that are no entries.
    match, listen : mapping, optional
        The markers of the matcher and the listener, read before the entries.
    archive : mapping, optional
        Rows of the archive by night, of batches up to the mark.
    notices : mapping, optional
        Messages of ``mm.notices`` by night, up to the mark.
    statements : mapping, optional
        Statements on the topics by their moment, each once, however many streams have it.
    wrong_copies : sequence of (str, str)
        Topic, and what is wrong with a statement on it.
    handed : int, optional
        Statements that the publisher's position has gone past, copies and retries too.
    voevents : int, optional
        Messages on the topics of VOEvents.
    """

    entries: Sequence[Entry]
    newer: Sequence[Entry] = ()
    unreadable: Sequence[int] = ()
    match: Entry | None = None
    listen: Entry | None = None
    archive: Mapping[str, int] | None = None
    notices: Mapping[str, int] | None = None
    statements: Mapping[str, int] | None = None
    wrong_copies: Sequence[tuple[str, str]] = ()
    handed: int | None = None
    voevents: int | None = None
    unchecked: Mapping[str, str] = field(default_factory=dict)


def holes(evidence: Evidence) -> list[Hole]:
    """Everything that does not add up; empty when all does."""
    return [
        *_unreadable(evidence),
        *_places(evidence.entries),
        *_steps(evidence.entries),
        *_positions(evidence.entries),
        *_judged(evidence.entries),
        *_totals(evidence),
        *_archived(evidence),
        *_stored(evidence),
        *_stated(evidence),
        *_published(evidence),
    ]


def of_kind(entries: Iterable[Entry], *kinds: str) -> list[Entry]:
    """Entries of some kinds, in their order."""
    return [entry for entry in entries if entry["kind"] in kinds]


def total(entries: Iterable[Entry]) -> dict[str, int]:
    """All counts of entries."""
    return ledger.added(entry["counts"] for entry in entries)


def night_of_entry(entry: Entry) -> str:
    """Night in which an entry was written; empty when it does not tell."""
    moment = entry.get("moment")
    return ledger.night_of_arrival(from_iso(moment)) if moment else ""


def rows(entries: Sequence[Entry]) -> list[dict[str, Any]]:
    """Counts by night, kind and feed, in that order.

    Alerts and notices by their own night, kind ``candidates`` by that of their first alert;
    ``steps`` has how many steps of each kind the matcher took and what they came to, ``voevents``
    the publisher's counts, both by the night in which that was done. Those three have no feed.
    """
    found: dict[tuple[str, str, str], Counter[str]] = {}
    for kind in ("alerts", "notices"):
        for (night, feed), counts in ledger.placed(of_kind(entries, kind)).items():
            mine = {n: c for n, c in counts.items() if not ledger.is_of_candidates(n)}
            if mine:
                found[(night, kind, feed)] = Counter(mine)
    steps = of_kind(entries, *ledger.MATCHER_KINDS)
    for (night, feed), counts in ledger.placed(steps).items():
        mine = {n: c for n, c in counts.items() if c and ledger.is_of_candidates(n)}
        if mine:
            found[(night, "candidates", feed)] = Counter(mine)
    for entry in of_kind(entries, "voevents"):
        key = (night_of_entry(entry), "voevents", "")
        found.setdefault(key, Counter()).update(entry["counts"])
    for entry in steps:
        done = found.setdefault((night_of_entry(entry), "steps", ""), Counter())
        done[str(entry["kind"])] += 1
        for name, n in entry["counts"].items():
            if not (ledger.is_placed("alerts", name) or ledger.is_of_candidates(name)):
                done[name] += n
    return [
        {"night": night, "kind": kind, "feed": feed, "counts": dict(sorted(counts.items()))}
        for (night, kind, feed), counts in sorted(found.items())
    ]


def count_of(entries: Iterable[Entry], has: Callable[[str, str], bool]) -> int:
    """How many entries have something of nights and feeds; their places are those of rows."""

    def places(entry: Entry) -> set[tuple[str, str]]:
        found = {(str(p["night"]), str(p["feed"])) for p in entry.get("parts", ())}
        return found if entry["kind"] == "notices" else found | {(night_of_entry(entry), "")}

    return sum(any(has(*place) for place in places(entry)) for entry in entries)


def _unreadable(evidence: Evidence) -> Iterator[Hole]:
    for offset in evidence.unreadable:
        yield Hole("entries", f"message {offset} of mm.ledger is no entry of the ledger", 1)


def _places(entries: Sequence[Entry]) -> Iterator[Hole]:
    """What was received is what became of it, for each night and feed; parts are the counts."""
    for kind in ("alerts", "notices"):
        mine = of_kind(entries, kind)
        for entry in mine:
            for name, n in ledger.part_holes(entry).items():
                counted = entry["counts"].get(name, 0)
                sentence = (
                    f"{_name(entry)} counts {counted} {name}, its nights and feeds {counted - n}"
                )
                yield Hole("parts", sentence, n, night_of_entry(entry))
        for (night, feed), counts in ledger.placed(mine).items():
            yield from _received(kind, counts, night, feed)
    yield from _received("voevents", total(of_kind(entries, "voevents")), "", "")


def _received(kind: str, counts: Mapping[str, int], night: str, feed: str) -> Iterator[Hole]:
    hole = ledger.HOLES[kind](counts)
    if hole:
        voevents = kind == "voevents"
        what, where = (
            ("statements for the publisher", "") if voevents else (kind, _where(night, feed))
        )
        received = counts.get("received", 0) + counts.get("released", 0)
        sentence = f"{what}{where}: {received} came in, {received - hole} are accounted for"
        yield Hole("received", sentence, hole, night, feed)


def _judged(entries: Sequence[Entry]) -> Iterator[Hole]:
    """Each candidate that is judged passes, or fails one cut."""
    for entry in of_kind(entries, *ledger.MATCHER_KINDS):
        hole = ledger.candidate_hole(entry["counts"])
        if hole:
            judged = entry["counts"].get("judged", 0)
            sentence = (
                f"{_name(entry)} judged {_many(judged, 'candidate')}, {judged - hole} are"
                " accounted for"
            )
            yield Hole("judged", sentence, hole, night_of_entry(entry))


def _steps(entries: Sequence[Entry]) -> Iterator[Hole]:
    """Steps, Spark's batches, and the ranges of messages of ours follow one another."""
    steps = [e for e in of_kind(entries, *ledger.MATCHER_KINDS) if e.get("step") is not None]
    yield from _sequence("step", [int(e["step"]) for e in steps])
    batches = [e for e in of_kind(entries, "alerts") if e.get("batch_id") is not None]
    yield from _sequence("batch", [int(e["batch_id"]) for e in batches])
    for name in ("regions", "verdicts", "lookups"):
        ranged = [e for e in steps if e.get(name)]
        for before, after in pairwise(ranged):
            jump = int(after[name][0]) - int(before[name][1])
            if jump:
                did = "skipped" if jump > 0 else "taken twice"
                how = f"{_were(abs(jump), 'message')} {did}"
                sentence = (
                    f"{_name(after)} goes on at message {after[name][0]} of the {name}: {how}"
                )
                yield Hole("steps", sentence, jump)


def _sequence(what: str, numbers: Sequence[int]) -> Iterator[Hole]:
    plural = "batches" if what == "batch" else f"{what}s"
    for before, after in pairwise(numbers):
        if after <= before:
            yield Hole("steps", f"{what} {after} stands again after {what} {before}", -1)
        elif after == before + 2:
            yield Hole("steps", f"{what} {before + 1} is missing", 1)
        elif after > before + 1:
            missing = f"{plural} {before + 1} to {after - 1} are missing"
            yield Hole("steps", missing, after - before - 1)


def _positions(entries: Sequence[Entry]) -> Iterator[Hole]:
    """The listener went past as many messages as it received.

    Only a difference that stays counts: what two sources hand over at a time may be worked
    through in another order than it was stored.
    """
    received, ahead = 0, []
    mine = [e for e in of_kind(entries, "notices") if e.get("next") is not None]
    for entry in mine:
        received += int(entry["counts"].get("received", 0))
        ahead.append(int(entry["next"]) - received)
    if not ahead or not ahead[-1]:
        return
    # The first entry from which on it was so until the end.
    begin = len(ahead) - 1
    while begin and ahead[begin - 1] == ahead[-1]:
        begin -= 1
    entry, n = mine[begin], ahead[-1]
    how = f"{n} more than were received" if n > 0 else f"{-n} fewer than were received"
    sentence = (
        f"since {_name(entry)} the listener has gone past {how} of the messages of mm.notices"
    )
    yield Hole("positions", sentence, n, night_of_entry(entry))


def _totals(evidence: Evidence) -> Iterator[Hole]:
    """The totals of the markers are the sums of the entries up to them."""
    if evidence.match is not None:
        last = evidence.match.get("step")
        mine = of_kind(evidence.entries, *ledger.MATCHER_KINDS)
        upto = [e for e in mine if last is None or int(e.get("step", 0)) <= int(last)]
        yield from _differences("matcher", evidence.match.get("totals", {}), total(upto))
    if evidence.listen is not None:
        mine = of_kind(evidence.entries, "notices")
        totals = evidence.listen.get("totals", {})
        yield from _differences("listener", totals, _nearest(mine, totals))


def _nearest(entries: Sequence[Entry], totals: Mapping[str, int]) -> dict[str, int]:
    """Sum of the entries up to the one that a marker with these totals was written with."""
    wanted = {name: n for name, n in totals.items() if n}
    sums: Counter[str] = Counter()
    for entry in entries:
        sums.update(entry["counts"])
        if dict(sums) == wanted:
            return wanted
    return dict(sums) if wanted else {}


def _differences(who: str, totals: Mapping[str, int], summed: Mapping[str, int]) -> Iterator[Hole]:
    for name in sorted({*totals, *summed}):
        n = totals.get(name, 0) - summed.get(name, 0)
        if n:
            sentence = (
                f"the marker of the {who} has {totals.get(name, 0)} {name} in all, its entries in"
                f" the ledger have {summed.get(name, 0)}"
            )
            yield Hole("totals", sentence, n)


def _archived(evidence: Evidence) -> Iterator[Hole]:
    """The archive has a row for each accepted alert of a night."""
    if evidence.archive is None:
        return
    accepted: Counter[str] = Counter()
    for (night, _), counts in ledger.placed(of_kind(evidence.entries, "alerts")).items():
        accepted[night] += ledger.archived(counts)
    for night in sorted({*accepted, *evidence.archive}):
        rows_, n = evidence.archive.get(night, 0), accepted[night]
        if rows_ != n:
            sentence = f"alerts{_where(night, '')}: {_were(n)} accepted, the archive has {rows_}"
            yield Hole("archive", sentence, n - rows_, night)


def _stored(evidence: Evidence) -> Iterator[Hole]:
    """Each notice that was received lies on ``mm.notices``."""
    if evidence.notices is None:
        return
    received: Counter[str] = Counter()
    for (night, _), counts in ledger.placed(of_kind(evidence.entries, "notices")).items():
        received[night] += counts.get("received", 0)
    for night in sorted({*received, *evidence.notices}):
        lie, n = evidence.notices.get(night, 0), received[night]
        if lie != n:
            sentence = f"notices{_where(night, '')}: {_were(n)} received, mm.notices has {lie}"
            yield Hole("notices", sentence, n - lie, night)


def _stated(evidence: Evidence) -> Iterator[Hole]:
    """Each statement that a step counted is on its topics once, and no other is."""
    for topic, what in evidence.wrong_copies:
        yield Hole("statements", f"{topic}: {what}", 1)
    if evidence.statements is None:
        return
    counted: Counter[str] = Counter()
    names: dict[str, str] = {}
    for entry in of_kind(evidence.entries, *ledger.MATCHER_KINDS):
        moment = str(entry.get("moment", ""))
        counted[moment] += int(entry["counts"].get("statements", 0))
        names.setdefault(moment, _name(entry))
    newer = {str(entry.get("moment", "")) for entry in evidence.newer}
    for moment in sorted({*counted, *evidence.statements}):
        n, there = counted[moment], evidence.statements.get(moment, 0)
        if n != there and not (moment in newer and there > n):
            step = names.get(moment, f"no step at {moment}")
            sentence = (
                f"{step} counts {_many(n, 'statement')}, the topics of candidates have {there}"
                " of it"
            )
            night = ledger.night_of_arrival(from_iso(moment)) if moment else ""
            yield Hole("statements", sentence, n - there, night)


def _published(evidence: Evidence) -> Iterator[Hole]:
    """The publisher took each statement, and its VOEvents are on their topics."""
    counts = total(of_kind(evidence.entries, "voevents"))
    received, made = counts.get("received", 0), counts.get("made", 0)
    if evidence.handed is not None and evidence.handed != received:
        sentence = (
            f"the publisher went past {_many(evidence.handed, 'statement')},"
            f" and counts {received} received"
        )
        yield Hole("voevents", sentence, evidence.handed - received)
    if evidence.voevents is None:
        return
    # Those of transactions that came while the topics were read may be there or not.
    at_most = made + total(of_kind(evidence.newer, "voevents")).get("made", 0)
    there = evidence.voevents
    if not made <= there <= at_most:
        n = made - there if there < made else at_most - there
        sentence = f"the publisher counts {_many(made, 'VOEvent')} made, their topics have {there}"
        yield Hole("voevents", sentence, n)


def _name(entry: Entry) -> str:
    """An entry, for people."""
    if entry["kind"] in ledger.MATCHER_KINDS and entry.get("step") is not None:
        return f"step {entry['step']} ({entry['kind']})"
    where = f" of {entry['moment']}" if entry.get("moment") else ""
    return f"the {entry['kind']} entry{where}"


def _many(n: int, what: str) -> str:
    return f"{n} {what}" if n == 1 else f"{n} {what}s"


def _were(n: int, what: str = "") -> str:
    return f"{_many(n, what) if what else n} {'was' if n == 1 else 'were'}"


def _where(night: str, feed: str) -> str:
    of = f" of the night {night}" if night else " of no known night"
    return f"{of} from {feed}" if feed else of
