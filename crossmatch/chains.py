"""Selection chains by messenger: windows, levels, newness, caps; each can be overridden.

The published reasons for the numbers stand in ``docs/explanation/selection.md``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from crossmatch.errors import ConfigError
from crossmatch.model import TIERS, Notice, Tier, Window
from crossmatch.selections import BUILT_IN, NOT_KNOWN, Selection, Step, named


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain:
    """How alerts are matched with, and graded for, one class of events.

    ``needs_new`` asks the first detection to lie in the window; ``gold_first_days``
    bounds the first detection of a gold candidate; ``max_tier`` caps the tier;
    ``active_days`` ends a region before its window does. A candidate that fails the selection
    ``demands`` is not told; one that fails ``silver_demands`` is bronze. None demands nothing.
    """

    name: str
    window: Window
    level: float
    level_silver: float
    needs_new: bool
    max_tier: Tier = "gold"
    gold_first_days: float | None = None
    active_days: float | None = None
    max_abs_mag: float | None = None
    min_abs_mag: float | None = None
    # Bronze is what is no known star or asteroid, as far as catalogues of them are asked.
    demands: Selection | None = BUILT_IN[NOT_KNOWN]
    silver_demands: Selection | None = None


_MINUTE = 1 / 1440
_DEMANDS = ("demands", "silver_demands")
_BURST = Window(-10 * _MINUTE, 20.0)

# fmt: off
DEFAULT_CHAINS: dict[str, Chain] = {
    c.name: c
    for c in (
        Chain(name="gw_ns", window=Window(0.0, 14.0), level=0.99, level_silver=0.95,
              needs_new=True, gold_first_days=5.0, min_abs_mag=-17.5, max_abs_mag=-10.0),
        # Black holes alone are not expected to shine: matched, but above bronze only by opting in.
        Chain(name="gw_bbh", window=Window(0.0, 200.0), level=0.95, level_silver=0.9,
              needs_new=False, max_tier="bronze"),
        Chain(name="gw_burst", window=Window(0.0, 14.0), level=0.95, level_silver=0.9,
              needs_new=True),
        # Never retracted by the mission, so they must expire by themselves.
        Chain(name="gw_low", window=Window(0.0, 3.0), level=0.9, level_silver=0.9,
              needs_new=True, max_tier="bronze", active_days=3.0),
        Chain(name="gw_low_ns", window=Window(0.0, 7.0), level=0.9, level_silver=0.9,
              needs_new=True, max_tier="bronze", active_days=7.0),
        # A near neutron star, or another messenger at the same time.
        Chain(name="gw_low_promising", window=Window(0.0, 7.0), level=0.9, level_silver=0.9,
              needs_new=True, max_tier="silver", active_days=7.0),
        Chain(name="grb", window=_BURST, level=0.99, level_silver=0.99, needs_new=True,
              gold_first_days=3.0),
        Chain(name="xray", window=Window(-1.0, 20.0), level=0.99, level_silver=0.99,
              needs_new=True),
        Chain(name="neutrino", window=Window(-30.0, 30.0), level=0.9, level_silver=0.9,
              needs_new=False),
        Chain(name="neutrino_statistical", window=Window(-30.0, 30.0), level=0.95,
              level_silver=0.95, needs_new=False),
        Chain(name="frb", window=Window(-1.0, 30.0), level=0.99, level_silver=0.9,
              needs_new=True, max_tier="bronze"),
        # Below the mission's own threshold, or a source that flares now and then: told, no more.
        Chain(name="subthreshold", window=Window(-10 * _MINUTE, 3.0), level=0.99,
              level_silver=0.99, needs_new=True, max_tier="bronze", active_days=3.0),
        Chain(name="known_source", window=Window(-1.0, 3.0), level=0.99, level_silver=0.99,
              needs_new=False, max_tier="bronze", active_days=3.0),
        Chain(name="optical", window=Window(-1.0, 30.0), level=0.99, level_silver=0.99,
              needs_new=False, max_tier="bronze"),
    )
}
# fmt: on


def chain_name(notice: Notice, *, systematic_included: bool) -> str:
    """Name of the chain that applies to ``notice``.

    A gravitational-wave event counts as one with a neutron star when
    P(BNS) + P(NSBH) >= 0.1, HasRemnant >= 0.1, or it comes from the sub-solar-mass search.
    """
    if notice.messenger == "neutrino":
        return "neutrino" if systematic_included else "neutrino_statistical"
    if notice.known_source:
        return "known_source"
    if notice.messenger in ("grb", "xray") and not notice.significant:
        return "subthreshold"
    if notice.messenger != "gw":
        return notice.messenger
    p = notice.classification
    has_star = (
        p.get("BNS", 0.0) + p.get("NSBH", 0.0) >= 0.1
        or p.get("HasRemnant", 0.0) >= 0.1
        or notice.details.get("search") == "SSM"
    )
    if not notice.significant:
        return _low_chain(notice, has_star)
    if has_star:
        return "gw_ns"
    return "gw_burst" if notice.details.get("group") == "Burst" else "gw_bbh"


def _low_chain(notice: Notice, has_star: bool) -> str:
    """Chain of a low-significance event; promising ones may reach silver."""
    p = notice.classification
    near = notice.distance_mpc is not None and notice.distance_mpc < 400
    likely_star = p.get("BNS", 0.0) + p.get("NSBH", 0.0) >= 0.2
    coincident = any(name.startswith("external_") for name in notice.details)
    if (near and likely_star) or coincident:
        return "gw_low_promising"
    return "gw_low_ns" if has_star else "gw_low"


def chains_with(
    overrides: Mapping[str, Mapping[str, Any]], selections: Mapping[str, Selection] = BUILT_IN
) -> dict[str, Chain]:
    """Default chains with some of their values replaced, as in ``[chains.grb]`` of the TOML.

    ``selections`` are those that a chain may name; what all of them demand by default is among
    them, and may be another one than the built-in.

    Raises
    ------
    ConfigError
        For an unknown chain or key, or a value outside its range.
    """
    demands = selections[NOT_KNOWN]
    chains = {name: replace(chain, demands=demands) for name, chain in DEFAULT_CHAINS.items()}
    for name, values in overrides.items():
        if name not in chains:
            raise ConfigError(f"[chains.{name}]: no such chain; known: {', '.join(sorted(chains))}")
        chains[name] = _override(chains[name], values, selections)
    return chains


def check_catalogs(
    chains: Mapping[str, Chain], searched: Mapping[str, float], kinds: Mapping[str, str]
) -> None:
    """Refuse demands of catalogues that cannot answer: they would remove nothing.

    What is demanded by default is not refused: it means those that there are.

    Parameters
    ----------
    chains : mapping of str to Chain
    searched : mapping of str to float
        Catalogues that are asked, and how far from a candidate, arcsec.
    kinds : mapping of str to str
        What the local ones among them are of.

    Raises
    ------
    ConfigError
        For a cut that looks at a catalogue or kind that is not among them, or farther.
    """
    for chain in chains.values():
        for key in _DEMANDS:
            selection: Selection | None = getattr(chain, key)
            if selection is None or selection == BUILT_IN[NOT_KNOWN]:
                continue
            for step in selection.steps:
                if step.about.needs == "catalogue":
                    where = f"[chains.{chain.name}] {key}: {step.name}"
                    _check_catalog(step, searched, kinds, where)


def _check_catalog(
    step: Step, searched: Mapping[str, float], kinds: Mapping[str, str], where: str
) -> None:
    given: dict[str, Any] = dict(step.parameters)
    radius_arcsec = given["radius_arcsec"]
    wanted = [name for name in searched if step.kind and kinds.get(name) == step.kind]
    if step.kind and not wanted:
        raise ConfigError(
            f"{where} looks at catalogues of the kind {step.kind!r}, of which none is asked"
            f" ({', '.join(searched) or 'none at all'}): put one into [match] catalogs"
        )
    # Of several the one that is searched least far.
    name = min(wanted, key=lambda one: searched[one]) if wanted else given["catalog"]
    if name not in searched:
        raise ConfigError(
            f"{where} looks at {name!r}, which is not asked ({', '.join(searched) or 'none is'}):"
            " put it into [match] catalogs, or into [cds] catalogs with enabled = true"
        )
    if radius_arcsec is not None and radius_arcsec > searched[name]:
        raise ConfigError(
            f"{where} looks {radius_arcsec:g} arcsec far, {name} is searched within"
            f" {searched[name]:g}: give the cut a smaller radius_arcsec, or search farther"
            " ([cds] radius_arcsec, or 'mmgateway catalogs add' with --radius)"
        )


def _override(
    chain: Chain, values: Mapping[str, Any], selections: Mapping[str, Selection]
) -> Chain:
    known = set(Chain.__dataclass_fields__) - {"name"}
    unknown = set(values) - known
    if unknown:
        raise ConfigError(
            f"[chains.{chain.name}]: unknown key {sorted(unknown)[0]!r}; known: {sorted(known)}"
        )
    changed: dict[str, Any] = {
        key: _demanded(chain.name, key, value, selections)
        if key in _DEMANDS
        else _typed(chain.name, key, value)
        for key, value in values.items()
    }
    return replace(chain, **changed)


def _demanded(
    chain: str, key: str, value: Any, selections: Mapping[str, Selection]
) -> Selection | None:
    where = f"[chains.{chain}] {key}"
    if value is False:
        return None
    if not isinstance(value, str):
        raise ConfigError(f"{where}: expected the name of a selection or false, found {value!r}")
    return named(value, selections, where)


def _typed(chain: str, key: str, value: Any) -> Any:
    """``value`` as a chain takes it; false means none where there may be none."""

    def refuse(expected: str) -> ConfigError:
        return ConfigError(f"[chains.{chain}] {key}: expected {expected}, found {value!r}")

    def is_number(number: Any) -> bool:
        return (
            isinstance(number, int | float)
            and not isinstance(number, bool)
            and math.isfinite(number)
        )

    if key == "window":
        if not (isinstance(value, list | tuple) and len(value) == 2 and all(map(is_number, value))):
            raise refuse("[start, end] in days")
        if not value[0] < value[1]:
            raise refuse("a start before the end")
        return Window(float(value[0]), float(value[1]))
    if key == "needs_new":
        if not isinstance(value, bool):
            raise refuse("true or false")
        return value
    if key == "max_tier":
        if value not in TIERS:
            raise refuse("bronze, silver or gold")
        return value
    if value is False and key not in ("level", "level_silver"):
        return None
    if not is_number(value):
        raise refuse("a number")
    if key in ("level", "level_silver") and not 0 < value <= 1:
        raise refuse("a level in (0, 1]")
    return float(value)
