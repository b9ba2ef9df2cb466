"""What the page of performance says in words: the lines give the figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gateway.bench.every import Line
from gateway.bench.figures import Figures, facts_of, us
from gateway.bench.measure import OURS, duration
from gateway.bench.pipeline_costs import COST_BY_STEP, DECODE, HAND_OVER, READ, measurable

_WORDS: Mapping[str, str] = {
    "join": "Alerts all over the sky meet all active regions at once: positions in, pairs of alert"
    " and region out. One region in five is a sky map, the others are circles. Peers that take one"
    " region after another are asked for some of them, and their time is scaled. Areas shrink from"
    " 1,000 regions on, so that an alert lies in a few of them.",
    "decode": "From packets to the columns that matching needs, in the Java machine as the live"
    " query does it. Peers decode whole records, which is what they offer.",
    "pipeline": "From a Kafka topic to candidates on Kafka: reading, decoding, archive, cuts, join"
    " with all active regions (four circles of 0.05 to 15° for each map of 10 to 2,000 deg²),"
    " candidates, one transaction a batch. Beside it Spark jobs that only read the same topic, and"
    " only read and decode it; and what brokers do without an index.",
    "notices": "From the bytes of a notice to its region, and through the listener: from a notice"
    " on its topic to its region on `mm.regions`.",
    "catalogue": "The nearest source of a local catalogue to each of many positions.",
    "late-region": "A sky map and a circle that come after the alerts: all nights of their windows"
    " are searched in the archive of alerts.",
    "latency": "A gateway with all services; alerts are sent one by one, at a steady rate. Beside"
    " it one that looks its candidates up at a CDS that takes long for each answer: nothing waits"
    " for it, and what it answers are updates of candidates that were told.",
    "packets": 'Keeping every packet (`[archive] packets = "all"`) beside the matching.',
    "cluster": "The live matcher with the join in the driver and in Spark's Python workers, once"
    " with threads of one Java machine and once with two executors in processes of their own. One"
    " machine does all of it, so that executors add their cost and no processors.",
    "burst": "All alerts of a night at once through a gateway of its own with circles in force: how"
    " long until the ledger has all of them, and how much memory all its processes take.",
    "bounds": "What bursts, many regions at once, half the sky and a month do to memory and time.",
}


_MANY_REGIONS = "1,000 regions"


def words_of(bench: str) -> str:
    """What a bench does; empty for one that is not known."""
    return _WORDS.get(bench, "")


def growth(lines: Sequence[Line]) -> list[str]:
    """How cost grows with alerts, regions and the size of maps."""
    figures = Figures(lines)
    return [
        "## How cost grows",
        " ".join(filter(None, [*_alerts(figures), *_regions(figures), *_maps(figures)])),
    ]


def _alerts(figures: Figures) -> list[str]:
    parts = [
        "**Alerts**: in proportion. Each batch is sorted and looked up as a whole, and no alert"
        " that does not match becomes an object of Python's."
    ]
    sizes = [
        f"{us(line['us_per_item'])} of one of {case.partition(' ')[2]} ({case.split()[0].upper()})"
        for case, line in figures.cases("decode").items()
    ]
    if sizes:
        parts.append(
            f"What an alert costs before it is matched follows from its size only as far as its"
            f" bytes have to be moved, since what lies behind the columns that are needed is not"
            f" decoded: {', '.join(sizes)}."
        )
    whole = [
        f"{us(line['us_per_item'])} with packets of {case.replace(', ', ' and ')}"
        for case, line in figures.cases("pipeline").items()
    ]
    return [*parts, f"From Kafka to Kafka an alert takes {', '.join(whole)}."] if whole else parts


def _regions(figures: Figures) -> list[str]:
    parts = [
        "**Regions**: all of them are a few layers of sorted intervals, a large one and small ones"
        " of those that came last. A table of cells of the sky spares most searches: where no edge"
        " of an interval crosses a cell, what holds its positions stands in the table; elsewhere a"
        " search takes the logarithm of the number of intervals. What grows is the number of pairs."
    ]
    joins = [
        (c, x) for c, x in figures.cases("join").items() if c.endswith((" region", " regions"))
    ]
    if len(joins) > 1:
        (few, first), (many, last) = joins[0], joins[-1]
        parts.append(
            f"An alert takes {us(first['us_per_item'])} beside {few} and"
            f" {us(last['us_per_item'])} beside {many}."
        )
    grown = [x for x in figures.lines if (x["bench"], x["case"]) == ("join", "growth")]
    if len(grown) > 1:
        ends = [x["subject"].removeprefix(f"{OURS}, ") for x in (grown[0], grown[-1])]
        parts.append(
            f"At about as many pairs an alert it takes {grown[-1]['ratio_to_ours']:.2g} times as"
            f" long with {ends[1]} as with {ends[0]}."
        )
    parts.append("Who takes one region after another pays in proportion to their number.")
    return parts


def _maps(figures: Figures) -> list[str]:
    parts = ["**Size of maps**:"]
    if size := _index_size(figures):
        cells, taken = size["map_cells"], size["index_bytes"]
        parts.append(
            f"intervals and cells of maps take {taken / cells:.3g} bytes of the index for each of"
            f" {cells:,} cells."
        )
    parts.append(
        "A lookup reads the few cells that it ends in, however many there are, and density and"
        " credible level only for pairs that are left after the cuts."
    )
    if added := figures.of("join", "add a map"):
        told = f"A new map is there for lookups after {duration(added['seconds'])}"
        facts = facts_of(added)
        if facts.get("large_layer_merged") == "yes":
            longest = duration(facts["longest_ms"] / 1e3)
            told += (
                f" as a rule, and now and then after {longest}, when a layer of small ones is"
                " merged with the large one; the matcher does either between batches"
            )
        parts.append(f"{told}. The others are not built anew.")
    if (large := figures.of("notices", "map")) is not None:
        cells = large.get("compared", "").partition(" map of ")[2].partition(" cells")[0]
        large_map = f"a file of {cells} cells" if cells else "a large file"
        parts.append(
            f"What grows with the cells is reading a map: {large_map} becomes a region in"
            f" {duration(large['seconds'])}."
        )
    return parts


def _index_size(figures: Figures) -> Mapping[str, Any] | None:
    """Cells and bytes of the index of 1,000 regions; None if lines do not tell."""
    line = figures.of("join", _MANY_REGIONS)
    facts = {} if line is None else facts_of(line)
    return facts if facts.get("map_cells") else None


def _columns(figures: Figures) -> str:
    """How many columns of an alert come back to the driver, by survey."""
    known = {
        case.split()[0].upper(): facts_of(line)["columns"]
        for case, line in figures.cases("decode").items()
        if "columns" in facts_of(line)
    }
    told = " or ".join(f"{count} ({survey})" for survey, count in known.items())
    return f"the {told} columns" if told else "the columns"


def cluster(lines: Sequence[Line]) -> list[str]:
    """What spreads over hosts, what is sent to them, and what is full first."""
    figures = Figures(lines)
    parts = [
        "Spark reads each partition of an alert topic in a task of its own, so that reading and"
        " decoding spread over as many cores as the topics have partitions. What comes back is"
        f" {_columns(figures)} of each alert that matching needs, and the whole packets of the few"
        " that look as if they passed the cuts. Archive, cuts, join, candidates and the transaction"
        " of a batch are made once, in the driver.",
    ]
    if size := _index_size(figures):
        parts.append(
            f"What a lookup needs of {_MANY_REGIONS} with {size['map_cells']:,} map cells is"
            f" {size['index_bytes'] / 1e6:,.0f} MB."
        )
    parts.append(
        "Where workers match, what a lookup needs is shipped as arrays in a folder that each host"
        " maps into memory once for all of them, and is never part of a closure, which would go"
        " out with every task."
    )
    for case in figures.cases("pipeline"):
        if (told := _saturated(figures, case)) is not None:
            parts.append(f"With packets of {case.split(',')[0]}: {told}")
    return [" ".join(parts)]


def _saturated(figures: Figures, case: str) -> str | None:
    """Whether the cores that decode or the driver are full first."""
    name = f"{COST_BY_STEP}{case}"
    steps = {
        line["subject"]: float(line["us_per_item"])
        for line in figures.lines
        if (line["bench"], line["case"]) == ("pipeline", name) and measurable(line)
    }
    spread = steps.pop(READ, 0.0) + steps.pop(DECODE, 0.0)
    # The driver takes a batch over from Spark while it makes the step of the one before.
    steps.pop(HAND_OVER, None)
    driver = sum(steps.values())
    if not spread or not driver:
        return None
    told = (
        f"reading and decoding an alert took this machine {us(spread)}, the driver's steps"
        f" {us(driver)}"
    )
    full = f"at {1e6 / driver:,.0f} alerts a second"
    if driver > spread:
        return f"{told}: the driver is full first, {full}."
    return (
        f"{told}: Kafka and the cores that decode are full first. One driver is full {full},"
        f" {spread / driver:.2g} times what this machine reads and decodes."
    )
