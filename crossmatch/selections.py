"""Selections: cuts in an order, with their parameters, as data.

A selection comes from ``[selections.NAME]`` of the configuration or is one of `BUILT_IN`. It
is asked of columns, of n rows at once, and tells which cut each row fails first.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from crossmatch.cutnames import CUTS, Cut, Missing, Parameter, Value
from crossmatch.errors import ConfigError
from crossmatch.model import BoolArray
from crossmatch.predicates import Columns

_KEYS = ("cut", "not", "missing", "missions", "as")


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A cut as a selection makes it.

    Parameters
    ----------
    name : str
        Under which it is counted.
    cut : str
        One of `CUTS`.
    parameters : tuple of (str, value)
    negated : bool
        Whether it keeps what the cut removes.
    missing : {"pass", "fail"}
        What becomes of a row of which it cannot tell.
    missions : tuple of str
        Events of these missions alone are looked at; empty: all.
    """

    name: str
    cut: str
    parameters: tuple[tuple[str, Value], ...] = ()
    negated: bool = False
    missing: Missing = "pass"
    missions: tuple[str, ...] = ()

    @property
    def about(self) -> Cut:
        """The cut."""
        return CUTS[self.cut]

    @property
    def kind(self) -> str:
        """Kind of the local catalogues that it looks at; empty if it looks at something else."""
        return str(dict(self.parameters).get("kind", self.about.kind))

    def fails(self, column: Columns) -> BoolArray:
        """Rows that it removes, (n,)."""
        passes, known = self.about.test(column, **dict(self.parameters))
        if self.negated:
            passes = ~passes
        return known & ~passes if self.missing == "pass" else ~(known & passes)

    def concerns(self, mission: str) -> bool:
        """Whether it is made for events of a mission."""
        return not self.missions or mission.casefold() in map(str.casefold, self.missions)

    def table(self) -> dict[str, Any]:
        """Plain values, as the configuration has them."""
        found: dict[str, Any] = {"cut": self.cut, "as": self.name, "missing": self.missing}
        found |= {name: False if v is None else v for name, v in self.parameters}
        if self.negated:
            found["not"] = True
        return found | ({"missions": list(self.missions)} if self.missions else {})

    @property
    def text(self) -> str:
        """For people, as ``star (radius_arcsec 2, min_star_score 0.76)``."""
        values = [f"{k} {_shown(v)}" for k, v in self.parameters]
        if self.missing != self.about.missing:
            values.append(f"missing values {self.missing}")
        if self.missions:
            values.append(f"{' and '.join(self.missions)} only")
        text = f"not {self.cut}" if self.negated else self.cut
        return f"{text} ({', '.join(values)})" if values else text


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Cuts in their order; all must be passed.

    ``kinds`` are those of local catalogues, if it removes nothing but what is near their
    sources: what has none near, or was not looked up in any, passes.
    """

    name: str
    steps: tuple[Step, ...]
    doc: str = ""
    kinds: tuple[str, ...] = field(init=False, compare=False)

    def __post_init__(self) -> None:
        near = [step.kind for step in self.steps if step.missing == "pass" and not step.negated]
        alone = len(near) == len(self.steps) and all(near)
        object.__setattr__(self, "kinds", tuple(near) if alone else ())

    def table(self) -> dict[str, Any]:
        """Plain values, as the configuration has them."""
        return {"doc": self.doc, "cuts": [step.table() for step in self.steps]}

    def removed(self, column: Columns, n: int, mission: str | None = None) -> Iterator[Removed]:
        """Step by step the rows that fail it first, (n,) bool; steps of other missions: none."""
        left = np.ones(n, np.bool_)
        for step in self.steps:
            if mission is not None and not step.concerns(mission):
                yield Removed(step, np.zeros(n, np.bool_))
                continue
            fails = left & step.fails(column)
            left = left & ~fails
            yield Removed(step, fails)

    def first_failed(self, column: Columns, mission: str) -> str | None:
        """Name of the first step that a single row fails; None: it passes."""
        found = self.removed(column, 1, mission)
        return next((one.step.name for one in found if one.rows[0]), None)


@dataclass(frozen=True, slots=True, eq=False)
class Removed:
    """What a step removed first, (n,) bool."""

    step: Step
    rows: BoolArray


def step_of(given: Any, where: str) -> Step:
    """A step from a cut's name, or from a table as ``{cut = "star", radius_arcsec = 1.5}``.

    Raises
    ------
    ConfigError
    """
    table = {"cut": given} if isinstance(given, str) else given
    if not isinstance(table, Mapping) or not isinstance(table.get("cut"), str):
        raise ConfigError(
            f'{where}: expected the name of a cut, or a table as in {{cut = "star",'
            f" radius_arcsec = 1.5}}, found {given!r}"
        )
    name = table["cut"]
    if name not in CUTS:
        raise ConfigError(f"{where}: no cut {name!r}; known: {', '.join(CUTS)}")
    cut = CUTS[name]
    known = {parameter.name: parameter for parameter in cut.parameters}
    unknown = sorted(set(table) - set(known) - set(_KEYS))
    if unknown:
        raise ConfigError(
            f"{where}: {name} has no {unknown[0]!r}; it has: {', '.join((*known, *_KEYS[1:]))}"
        )
    return _step(table, cut, where)


def _step(table: Mapping[str, Any], cut: Cut, where: str) -> Step:
    negated = table.get("not", False)
    if not isinstance(negated, bool):
        raise ConfigError(f"{where}: {cut.name}: not: expected true or false, found {negated!r}")
    # What is to be removed otherwise is wanted here: what is not known to be so is not.
    other: Missing = "fail" if cut.missing == "pass" else "pass"
    missing = table.get("missing", other if negated else cut.missing)
    if missing not in ("pass", "fail"):
        raise ConfigError(f'{where}: {cut.name}: missing: "pass" or "fail", not {missing!r}')
    missions = table.get("missions", [])
    if not isinstance(missions, list | tuple) or not all(isinstance(m, str) for m in missions):
        raise ConfigError(f'{where}: {cut.name}: missions: expected a list, as in ["Swift"]')
    if missions and cut.needs != "event":
        raise ConfigError(f"{where}: {cut.name}: missions: it does not look at the event")
    values = {
        one.name: _value(table.get(one.name, _default(one)), one, f"{where}: {cut.name}")
        for one in cut.parameters
    }
    counted_as = (cut.counted_as or cut.name).format(**values)
    name = table.get("as", ("not_" if negated else "") + counted_as)
    if not isinstance(name, str) or not name.isidentifier():
        raise ConfigError(f"{where}: {cut.name}: as: a name has letters, digits and _")
    return Step(
        name=name,
        cut=cut.name,
        parameters=tuple(values.items()),
        negated=negated,
        missing=missing,
        missions=tuple(missions),
    )


def _default(parameter: Parameter) -> Any:
    return False if parameter.default is None else parameter.default


def _value(value: Any, parameter: Parameter, where: str) -> Value:
    """``value`` as the parameter takes it; false means no bound."""
    if isinstance(parameter.default, str):
        if not isinstance(value, str) or not value:
            raise ConfigError(f"{where}: {parameter.name}: expected a text, found {value!r}")
        if parameter.choices and value not in parameter.choices:
            expected = ", ".join(parameter.choices)
            raise ConfigError(f"{where}: {parameter.name}: one of {expected}; found {value!r}")
        return value
    if value is False and parameter.may_be_none:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        none = ", or false for none" if parameter.may_be_none else ""
        raise ConfigError(f"{where}: {parameter.name}: expected a number{none}, found {value!r}")
    return float(value)


def selection_of(
    name: str, given: Any, others: Mapping[str, Selection], doc: str = ""
) -> Selection:
    """A selection from a list of steps and of names of ``others``, whose steps it takes in.

    Raises
    ------
    ConfigError
    """
    where = f"[selections.{name}] cuts"
    if not isinstance(given, list | tuple) or not given:
        raise ConfigError(f'{where}: expected a list, as in ["positive", "real_bogus"]')
    steps: list[Step] = []
    for one in given:
        if isinstance(one, str) and one not in CUTS and one in others:
            steps += others[one].steps
        elif isinstance(one, str) and one not in CUTS:
            raise ConfigError(
                f"{where}: {one!r} is no cut and no selection; cuts: {', '.join(CUTS)};"
                f" selections: {', '.join(others)}"
            )
        else:
            steps.append(step_of(one, where))
    names = [step.name for step in steps]
    twice = next((n for n in names if names.count(n) > 1), None)
    if twice is not None:
        raise ConfigError(f'{where}: {twice} stands there twice; give one a name: as = "..."')
    return Selection(name=name, steps=tuple(steps), doc=doc)


def _ones(cuts: Sequence[str], **more: Any) -> list[dict[str, Any]]:
    return [{"cut": name, **more} for name in cuts]


NOT_KNOWN = "not_star_or_asteroid"
"""Name of the selection that every chain demands, unless it is told otherwise."""

# fmt: off
_BUILT_IN: Mapping[str, tuple[str, list[Any]]] = {
    "fink": (
        "Fink's quality cuts: rb >= 0.55, nbad = 0, |magdiff| < 0.1 (Möller et al. 2021). As with"
        " Fink, what lacks a value fails: alerts of LSST do",
        [{"cut": "real_bogus", "min_deep_real_bogus": False, "missing": "fail"},
         *_ones(["bad_pixels", "mag_difference"], missing="fail")],
    ),
    "cuts0": (
        "at least 1 arcsec from any Simbad object, 5 arcsec from Gaia and Pan-STARRS sources"
        " (Möller et al. 2021). It removes events inside visible galaxies",
        [{"cut": "far_from", "catalog": "simbad", "as": "simbad"}, "far_from_gaia",
         "far_from_ps1"],
    ),
    "cuts1": (
        "detected and first detected from -600 s to 20 d after the trigger; separation <= 3 sigma"
        " for Swift, <= min(sigma, 5 deg) for Fermi (Möller et al. 2021)",
        ["window", "first_detected",
         {"cut": "separation", "max_sigma": 3.0, "missions": ["Swift"], "as": "separation_swift"},
         {"cut": "separation", "max_sigma": 1.0, "max_deg": 5.0, "missions": ["Fermi"],
          "as": "separation_fermi"}],
    ),
    "solar_system": (
        "candidates of unknown minor bodies: one or two detections within 30 minutes, nothing"
        " star-like, no Pan-STARRS source within 1.5 arcsec (Möller et al. 2021)",
        [{"cut": "detections", "min_detections": 1, "max_detections": 2}, "short_lived",
         "galaxy_like", {"cut": "far_from_ps1", "radius_arcsec": 1.5}],
    ),
    "known_minor_bodies": (
        "a known minor body lies within 5 arcsec", [{"cut": "moving", "not": True}],
    ),
    "kilonova": (
        "seen twice, fading or risen fast, and as luminous as a kilonova where a distance is"
        " known; outside of the plane of the Galaxy",
        ["two_detections", "changing", "absolute_magnitude", "galactic_latitude"],
    ),
    NOT_KNOWN: (
        "what every chain demands by default: no star of a local catalogue within 1.5 arcsec, by a"
        " parallax or proper motion of 3 sigma; no minor planet of one within 5 arcsec, of what was"
        " seen for less than 30 minutes",
        ["known_star", "known_minor_planet"],
    ),
}
# fmt: on

BUILT_IN: dict[str, Selection] = {
    name: selection_of(name, cuts, {}, doc) for name, (doc, cuts) in _BUILT_IN.items()
}
"""Selections that every configuration has."""


def selections_with(tables: Mapping[str, Mapping[str, Any]]) -> dict[str, Selection]:
    """Built-in selections and those of the configuration, which may replace them.

    A selection may take in others that stand before it.

    Raises
    ------
    ConfigError
    """
    found = dict(BUILT_IN)
    for name, table in tables.items():
        if not name.isidentifier() or name in CUTS or name == "default":
            why = "is a cut" if name in CUTS else "is that of [cuts]"
            why = why if name.isidentifier() else "has more than letters, digits and _"
            raise ConfigError(f"[selections.{name}]: choose another name: {name!r} {why}")
        unknown = sorted(set(table) - {"cuts", "doc"})
        if unknown:
            raise ConfigError(f"[selections.{name}] {unknown[0]}: no such key; known: cuts, doc")
        doc = table.get("doc", "")
        if not isinstance(doc, str):
            raise ConfigError(f"[selections.{name}] doc: expected a text, found {doc!r}")
        found[name] = selection_of(name, table.get("cuts"), found, doc)
    return found


def named(name: str, selections: Mapping[str, Selection], where: str) -> Selection:
    """The selection of a name; a cut's name means that cut alone.

    Raises
    ------
    ConfigError
    """
    if name in selections:
        return selections[name]
    if name in CUTS:
        return Selection(name=name, steps=(step_of(name, where),), doc=CUTS[name].doc)
    raise ConfigError(
        f"{where}: no selection {name!r}; known: {', '.join(selections)}, and each cut"
    )


def _shown(value: Value) -> str:
    if value is None:
        return "none"
    return value if isinstance(value, str) else f"{value:g}"
