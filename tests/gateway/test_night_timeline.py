"""The map from the night to the wall clock."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from gateway.night.alerts import TimedAlert, alert_times
from gateway.night.notices import Timed, notices
from gateway.night.timeline import DEFAULT_SECONDS, Schedule


@pytest.fixture(scope="module")
def schedule():
    return Schedule.of_night()


def test_default_lasts_about_a_minute(schedule):
    assert schedule.duration_s == pytest.approx(DEFAULT_SECONDS)
    assert 60 <= DEFAULT_SECONDS <= 75


def test_duration_is_an_argument():
    assert Schedule.of_night(10).duration_s == pytest.approx(10)


def test_order_is_kept(schedule):
    assert (np.diff(schedule.night_s) > 0).all()
    assert (np.diff(schedule.wall_s) > 0).all()


def test_everything_fits_into_the_duration(schedule):
    times = np.concatenate([alert_times(5000), [n.sent.timestamp() for n in notices()]])
    wall = schedule.wall_offsets(times)
    assert wall.min() >= 0
    assert wall.max() <= schedule.duration_s


def test_each_notice_has_a_moment_of_its_own(schedule):
    wall = [schedule.wall_seconds(n.sent) for n in notices()]
    assert np.diff(wall).min() > 0.1


def test_empty_days_are_skipped(schedule):
    start = schedule.wall_seconds(datetime(2017, 8, 15, tzinfo=UTC))
    end = schedule.wall_seconds(datetime(2017, 8, 17, 12, tzinfo=UTC))
    assert end - start < 0.5


def test_alerts_come_at_an_even_rate_in_the_night(schedule):
    wall = schedule.wall_offsets(alert_times(20_000))
    counts = np.histogram(wall, bins=np.arange(35, 60, 2.0))[0]
    assert counts.max() < 2.5 * counts.min()


def test_night_time_is_the_inverse(schedule):
    when = datetime(2017, 8, 18, 3, 4, 5, tzinfo=UTC)
    assert abs(schedule.night_time(schedule.wall_seconds(when)) - when) < timedelta(seconds=0.01)


def test_merging_keeps_order_and_puts_notices_first():
    moment = datetime(2017, 8, 18, tzinfo=UTC)
    told = [Timed(moment, "topic", b"", "", "kafka")]
    seen = [TimedAlert(moment + timedelta(seconds=s), "a", s, b"") for s in (-1, 0, 1)]
    assert list(Schedule.merged(told, seen)) == [seen[0], told[0], *seen[1:]]


def test_only_notices_make_a_schedule():
    schedule = Schedule.of(np.array([0.0, 100_000.0]), np.empty(0), 5)
    assert schedule.duration_s == pytest.approx(5)


def test_nothing_to_play_is_refused():
    with pytest.raises(ValueError, match="needs notices or alerts"):
        Schedule.of(np.empty(0), np.empty(0))
