"""What candidates still await from catalogues elsewhere, as it was committed, and asking for it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from broker.awaited import Question, questions_of
from broker.writer import read_marker, read_state
from crossmatch.errors import ConfigError
from crossmatch.remote import Answer
from gateway import runfiles
from gateway.config import Config
from gateway.lookup import remote_of
from gateway.matcher.backfill import REPORT, Backfill, Report, Told, cache_of, client_of, unread


@dataclass(frozen=True, slots=True)
class Waiting:
    """Questions that no step has an answer to, and answers that no step took in yet."""

    questions: list[Question]
    on_the_way: list[Answer]

    def counts(self) -> dict[str, int]:
        """Questions by catalogue."""
        return dict(sorted(Counter(one.catalog for one in self.questions).items()))


def waiting(config: Config, bootstrap: str) -> Waiting:
    """What is waited for, by the state that the matcher committed last.

    Raises
    ------
    ServiceError
        When Kafka does not answer.
    """
    properties = config.kafka.properties
    marker = read_marker(bootstrap, properties)
    if marker is None:
        return Waiting([], [])
    groups = read_state(bootstrap, properties).groups
    questions = questions_of(groups, remote_of(config))
    return Waiting(questions, unread(bootstrap, properties, marker.lookups_next))


def told(config: Config) -> Mapping[str, Any]:
    """What the running matcher last said of its look-ups; empty if it never did."""
    return runfiles.read_json(config.paths.state / "run" / REPORT) or {}


def run(
    config: Config,
    bootstrap: str,
    found: Waiting,
    advance: Callable[[int, int], None] = lambda done, of: None,
) -> Report:
    """Ask for everything that is waited for, once; ``advance`` is told how many of how many.

    Raises
    ------
    ConfigError
        If nothing is looked up at CDS.
    ServiceError
        When Kafka does not take the answers.
    """
    if not remote_of(config).catalogs:
        raise ConfigError("nothing is looked up at CDS; [cds] enabled = true begins with it")
    done = 0
    tell = Told(bootstrap, config.kafka.properties)

    def say(answers: Any) -> None:
        nonlocal done
        tell(answers)
        done += len(answers)
        advance(done, len(found.questions))

    cache = cache_of(config)
    try:
        client, batch = client_of(config), config.cds.batch
        backfill = Backfill(lambda: found.questions, client, cache, say, batch)
        backfill.note(found.on_the_way)
        return backfill.work()
    finally:
        cache.close()
