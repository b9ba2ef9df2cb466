from datetime import UTC, datetime, timedelta, timezone

import pytest
from astropy.time import Time
from hypothesis import given
from hypothesis import strategies as st

from crossmatch.times import datetime_from_jd, jd_from_datetime

YEARS = st.datetimes(datetime(1990, 1, 1), datetime(2060, 1, 1), timezones=st.just(UTC))


@given(YEARS)
def test_there_and_back_keeps_what_a_float_can_hold(time: datetime) -> None:
    back = datetime_from_jd(jd_from_datetime(time))
    assert abs(back - time) < timedelta(microseconds=50)


def test_agrees_with_astropy() -> None:
    time = datetime(2017, 8, 17, 12, 41, 4, 430000, tzinfo=UTC)
    assert jd_from_datetime(time) == pytest.approx(Time(time).utc.jd, abs=1e-9)


def test_zones_are_respected() -> None:
    summer = timezone(timedelta(hours=2))
    assert jd_from_datetime(datetime(2020, 1, 1, 14, tzinfo=summer)) == 2458850.0


def test_a_time_without_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="zone"):
        jd_from_datetime(datetime(2020, 1, 1))
