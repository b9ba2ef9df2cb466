"""What has to be asked of catalogues elsewhere: nobody writes it down, it follows from the groups.

So it cannot get lost, nor be asked for twice for good: a group whose candidate says of a catalogue
that it was not looked up there awaits its answer, whatever happened before.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from broker.groups import Group, GroupKey
from crossmatch.counterpart import latest_of
from crossmatch.remote import Remote
from crossmatch.versions import Name


class Question(NamedTuple):
    """What a catalogue is to be asked: what it has near a place of an object."""

    catalog: str
    counterpart_id: str
    ra_deg: float
    dec_deg: float


class Awaited:
    """Questions of the groups of a broker.

    Parameters
    ----------
    remote : Remote
        Which catalogues are asked, and whether about private events too.
    """

    def __init__(self, remote: Remote) -> None:
        self._remote = remote
        self._of_group: dict[GroupKey, tuple[Question, ...]] = {}

    def note(self, key: GroupKey, group: Group) -> None:
        """Take note of a group as it is now."""
        found = self._questions(key, group)
        if found:
            self._of_group[key] = found
        else:
            self._of_group.pop(key, None)

    def forget(self, key: GroupKey) -> None:
        """The group is gone."""
        self._of_group.pop(key, None)

    def events(self) -> set[Name]:
        """Events of which a group awaits an answer."""
        return {key.event for key in self._of_group}

    def questions(self) -> list[Question]:
        """All questions, each once, in the order in which they arose; from any thread."""
        held = self._of_group.copy()
        return list(dict.fromkeys(one for questions in held.values() for one in questions))

    def _questions(self, key: GroupKey, group: Group) -> tuple[Question, ...]:
        waiting = group.not_looked_up
        if not waiting or not group.alerts or (key.streams and not self._remote.with_private):
            return ()
        latest = latest_of(list(group.alerts.values())).alert
        return tuple(
            Question(name, key.counterpart_id, latest["ra_deg"], latest["dec_deg"])
            for name in waiting
            if name in self._remote.catalogs
        )


def questions_of(groups: Mapping[GroupKey, Group], remote: Remote) -> list[Question]:
    """What groups await, as they were committed."""
    awaited = Awaited(remote)
    for key, group in groups.items():
        awaited.note(key, group)
    return awaited.questions()
