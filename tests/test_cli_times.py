"""Times: moments and durations, as people read and write them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from command import refused

from gitstate.cli.times import duration, moment, size

UNITS = {
    1: ("s", "sec", "second", "seconds"),
    60: ("m", "min", "minute", "minutes"),
    3600: ("h", "hour", "hours"),
    86400: ("d", "day", "days"),
    604800: ("w", "week", "weeks"),
}


@pytest.mark.parametrize("form", ["2{}", "2 {}", "2{} ago", "2 {} ago", "2.{}.ago"])
def test_a_moment_is_so_many_of_a_unit_ago(form):
    for seconds, names in UNITS.items():
        for name in names:
            off = datetime.now(UTC) - moment(form.format(name))
            assert abs(off - timedelta(seconds=2 * seconds)) < timedelta(seconds=0.5), name


@pytest.mark.parametrize(
    "text", ["1 month ago", "2months", "1mo", "1 decade ago", "3 sundays", "2 hogs", "1 year", "5"]
)
def test_what_is_no_unit_names_no_moment(text):
    with pytest.raises(ValueError, match="Invalid isoformat"):
        moment(text)


def test_a_month_is_refused_where_it_is_typed(tmp_path):
    assert "names no moment" in refused(2, "log", "--since", "1 month ago", cwd=tmp_path)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.85, "850 ms"),
        (0.9994, "999 ms"),
        (0.9996, "1.0 s"),
        (3.2, "3.2 s"),
        (59.94, "59.9 s"),
        (59.96, "1 min 00 s"),
        (725, "12 min 05 s"),
        (3599.7, "1 h 00 min"),
        (12000, "3 h 20 min"),
        (86399.8, "1 d 0 h"),
    ],
)
def test_a_duration_is_short_and_no_unit_is_full(seconds, text):
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 KB"),
        (9949, "9.9 KB"),
        (9960, "10 KB"),
        (43_000, "43 KB"),
        (999_400, "999 KB"),
        (999_600, "1.0 MB"),
        (5_000_000_000_000, "5000 GB"),
    ],
)
def test_a_size_is_short_and_no_unit_is_full(count, text):
    assert size(count) == text
