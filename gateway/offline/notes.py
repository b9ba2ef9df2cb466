"""Why something could not be made once more as it was: packets, maps, versions, selections."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from broker import topics
from broker.judge import Address
from crossmatch.candidate import Versions
from crossmatch.errors import Rejected
from gateway.offline.logbook import Step
from gateway.offline.published import Difference


class Notes:
    """Collects what may be why something could not be made once more.

    Parameters
    ----------
    versions : Versions
        Cuts, code and catalogues by which it is done.
    """

    def __init__(self, versions: Versions) -> None:
        self._selection = " ".join((versions.cuts, versions.code, *versions.catalogs))
        self._refused: list[str] = []
        self._gone: dict[Address, int] = {}
        self._stopped: Step | None = None

    def refused(self, offset: int, error: Rejected) -> None:
        """A message of the region log that is no region now."""
        self._refused.append(
            f"message {offset} of {topics.REGION_LOG} cannot be used: {error.detail}"
            f" ({error.reason})"
        )

    def packets(self, gone: Mapping[Address, int]) -> None:
        """Packets that can no longer be had."""
        self._gone.update(gone)

    def stopped(self, step: Step | None) -> None:
        """The first step under another selection."""
        if step is not None and (self._stopped is None or step.number < self._stopped.number):
            self._stopped = step

    def told(self, differences: Sequence[Difference]) -> list[str]:
        """Everything, in sentences."""
        found = list(self._refused)
        if self._stopped is not None:
            step = self._stopped
            found.append(
                f"step {step.number} ({step.moment:%Y-%m-%d %H:%M:%S} UTC) and later ones were"
                f" done by {step.selection} (cuts and chains, code, catalogues), this is"
                f" {self._selection}: give the configuration of that time before the command"
                " (mmgateway -c FILE reprocess)"
            )
        if self._gone:
            (topic, partition, offset), alert = min(self._gone.items())
            found.append(
                f"{len(self._gone):,} packets are neither in Kafka nor in the store of packets,"
                f" the first that of alert {alert} ({topic}/{partition} offset {offset}): without"
                " them light curves and alert_sha256 are missing; [archive] packets keeps them"
            )
        for name in ("code_version", "catalog_versions", "cuts_version"):
            pairs = {
                str(d.columns[name]): d.columns[name] for d in differences if name in d.columns
            }
            for was, now in pairs.values():
                found.append(f"{name} was {_text(was)}, and is {_text(now)} here")
        if any(d.kind == "different" and not d.columns for d in differences):
            found.append("some differ in their bytes alone, in no column: another Avro library")
        return found


def _text(value: Any) -> str:
    return (", ".join(value) or "none") if isinstance(value, list) else str(value)
