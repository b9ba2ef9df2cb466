"""LSST's alert schemas by their registry number: of a folder or a registry, also late ones."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from broker import containers, packets
from crossmatch.errors import AlertError, ServiceError

MAX_SOUGHT = 16
"""Numbers that one search asks for: of damaged packets each has another."""
_ASK_SECONDS = 3.0
_PAUSE_SECONDS = 30.0
_RETRY = "mmgateway deadletter retry --reason unknown_schema_id"


class LsstSchemas(Mapping[int, str]):
    """Self-contained schema JSON by registry number; `seek` finds those that came later.

    Parameters
    ----------
    where : str
        Folder with ``v<major>_<minor>/*.avsc``, http(s) address of a registry, or empty: then
        there are only ``known``.
    known : mapping of int to str, optional
        In place of what ``where`` has at the start.
    clock : callable
        Monotonic seconds: a registry that does not answer is left alone for a while.

    Raises
    ------
    AlertError
        As `broker.packets.read_lsst_schemas`.
    ServiceError
        As `from_registry`.

    Notes
    -----
    A number never changes its schema, so that one that is known is not read again. Any thread may
    read, one may seek.
    """

    def __init__(
        self,
        where: str = "",
        known: Mapping[int, str] | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._where = where
        self._clock = clock
        self._asked_again_at = clock()
        self._trouble = ""
        self._known = dict(_all(where) if known is None else known)

    @classmethod
    def of(cls, schemas: Mapping[int, str]) -> LsstSchemas:
        """``schemas`` themselves if they can be sought, else as they are."""
        return schemas if isinstance(schemas, cls) else cls(known=schemas)

    def __getitem__(self, number: int) -> str:
        return self._known[number]

    def __iter__(self) -> Iterator[int]:
        return iter(self._known)

    def __len__(self) -> int:
        return len(self._known)

    def seek(self, numbers: Sequence[int]) -> list[int]:
        """Look for schemas that are not known yet, the first ones first; those that were found.

        Nothing is raised: what went wrong is part of what `advice` says.
        """
        unknown = [number for number in numbers if number not in self._known][:MAX_SOUGHT]
        if not unknown or not self._where or self._clock() < self._asked_again_at:
            return []
        self._trouble = ""
        found = {}
        for number in unknown:
            try:
                text = _one(self._where, number)
            except AlertError as error:
                # Perhaps half of it is written: the next batch looks again.
                self._trouble = error.detail
                continue
            except ServiceError as error:
                self._trouble = str(error)
                self._asked_again_at = self._clock() + _PAUSE_SECONDS
                break
            if text is not None:
                found[number] = text
        if found:
            # Others may be reading.
            self._known = self._known | found
        return list(found)

    def advice(self, number: int) -> str:
        """What is to be done so that alerts with a schema that is not known can be read."""
        known = ", ".join(map(str, sorted(self._known))) or "none"
        said = f"schema {number} is not at hand (known: {known}); "
        if not self._where:
            return said + f"set [match] lsst_schemas, start match anew, then: {_RETRY}"
        if _is_address(self._where):
            said += f"once {self._where} has it: {_RETRY}"
        else:
            said += f"put it into {self._where}/{_folder(number)}, then: {_RETRY}"
        return f"{said} ({self._trouble})" if self._trouble else said


def _all(where: str) -> Mapping[int, str]:
    if not where:
        return {}
    if _is_address(where):
        return from_registry(where, ())
    return packets.read_lsst_schemas(Path(where))


def _one(where: str, number: int) -> str | None:
    """The schema, or None where it is not."""
    if _is_address(where):
        return _registered(where.rstrip("/"), number, _ASK_SECONDS)
    paths = sorted((Path(where) / _folder(number)).glob("lsst.v*.alert.avsc"))
    return containers.with_parts(paths[-1]) if paths else None


def _is_address(where: str) -> bool:
    return where.startswith(("http://", "https://"))


def _folder(number: int) -> str:
    major, minor = divmod(number, 100)
    return f"v{major}_{minor}"


def from_registry(
    address: str, numbers: Sequence[int], timeout_seconds: float = 10.0
) -> dict[int, str]:
    """Schemas by number from a Confluent schema registry, ``GET <address>/schemas/ids/<number>``.

    Parameters
    ----------
    address : str
        http or https, without the trailing path.
    numbers : sequence of int
        Those to ask for; an empty one asks for all that the registry has.

    Raises
    ------
    ServiceError
        If the registry does not answer, or answers with something else.
    """
    if not _is_address(address):
        raise ServiceError(f"schema registry {address}: an address starts with http:// or https://")
    base = address.rstrip("/")
    if not numbers:
        listed = _get_json(f"{base}/schemas", timeout_seconds)
        numbers = sorted({int(entry["id"]) for entry in listed or ()})
    schemas = {}
    for number in numbers:
        text = _registered(base, number, timeout_seconds)
        if text is None:
            raise ServiceError(f"{base}/schemas/ids/{number}: HTTP status 404")
        schemas[number] = text
    return schemas


def _registered(base: str, number: int, timeout_seconds: float) -> str | None:
    answer = _get_json(f"{base}/schemas/ids/{number}", timeout_seconds)
    if answer is None:
        return None
    if not isinstance(answer, dict) or not isinstance(answer.get("schema"), str):
        raise ServiceError(f"{base}/schemas/ids/{number}: no schema in the answer")
    if answer.get("references"):
        raise ServiceError(f"{base}/schemas/ids/{number}: a schema in parts is not supported")
    schema: str = answer["schema"]
    return schema


def _get_json(url: str, timeout_seconds: float) -> Any:
    """What is at an address; None if there is nothing."""
    request = urllib.request.Request(url, headers={"Accept": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=timeout_seconds) as answer:
            return json.loads(answer.read(16 << 20))
    except urllib.error.HTTPError as error:
        with error:
            if error.code == 404:
                return None
        raise ServiceError(f"{url}: HTTP status {error.code}") from error
    except (OSError, ValueError) as error:
        raise ServiceError(f"{url}: {error}") from error
