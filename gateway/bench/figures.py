"""Looking lines of benches up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gateway.bench.every import Line
from gateway.bench.measure import OURS, duration


class Figures:
    """Lines by bench, case and subject."""

    def __init__(self, lines: Sequence[Line]) -> None:
        self.lines = lines

    def of(self, bench: str, case: str, subject: str = OURS) -> Line | None:
        """The line of a case."""
        return self.subjects(bench, case).get(subject)

    def beginning(self, bench: str, case: str, subject: str) -> Line | None:
        """The line whose subject begins so; the one that is called so comes first."""
        mine = self.subjects(bench, case)
        begun = (line for name, line in mine.items() if name.startswith(subject))
        return mine.get(subject) or (None if subject == OURS else next(begun, None))

    def cases(self, bench: str, subject: str = OURS) -> dict[str, Line]:
        """Lines of a subject by case, in order."""
        cases = dict.fromkeys(line["case"] for line in self.lines if line["bench"] == bench)
        found = {case: self.beginning(bench, case, subject) for case in cases}
        return {case: line for case, line in found.items() if line is not None}

    def subjects(self, bench: str, case: str) -> dict[str, Line]:
        """Lines of a case by subject, in order."""
        wanted = (bench, case)
        return {x["subject"]: x for x in self.lines if (x["bench"], x["case"]) == wanted}


def facts_of(line: Line) -> Mapping[str, Any]:
    """Further figures of a line; none where it tells none."""
    facts: Mapping[str, Any] = line.get("facts", {})
    return facts


def us(microseconds: float) -> str:
    """Microseconds in words."""
    return duration(microseconds / 1e6)
