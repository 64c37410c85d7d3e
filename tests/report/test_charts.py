"""Curves as geometry, by hand: the picture is 360 by 225, its axes from 46 to 348 and 187 to 10."""

from __future__ import annotations

import pytest

from rllib_sea.report.charts import Chart, Point, Series, number_text, ticks, trailing_means


@pytest.mark.parametrize(
    ("low", "high", "texts"),
    [
        (0.0, 1.0, ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]),
        (0.0, 256.0, ["0", "100", "200"]),
        (0.0, 5000.0, ["0", "1,000", "2,000", "3,000", "4,000", "5,000"]),
        (-0.013, 0.021, ["-0.01", "0.00", "0.01", "0.02"]),
        (4.02, 4.03, ["4.020", "4.022", "4.024", "4.026", "4.028", "4.030"]),
    ],
)
def test_ticks_are_round(low: float, high: float, texts: list[str]) -> None:
    found = ticks(low, high, 5)
    assert [text for _, text in found] == texts
    assert all(low - 1e-9 <= value <= high + 1e-9 for value, _ in found)


def test_rounds_are_whole() -> None:
    chart = Chart("Labels", "rounds", [Series("", [Point(1, 4.0), Point(3, 4.0)])])
    assert [tick.text for tick in chart.x_ticks()] == ["0", "1", "2", "3"]


def test_places_of_a_curve_and_its_band() -> None:
    points = [Point(0, 0.0, 0.0, 0.5), Point(10, 1.0, 0.5, 1.0)]
    chart = Chart("Win rate", "queries", [Series("", points)], y_range=(0, 1))
    (drawn,) = chart.drawn()
    assert drawn.line == "M46,187L348,10"
    # Along the upper ends, and back along the lower ones.
    assert drawn.band == "M46,98.5L348,10L348,98.5L46,187Z"
    assert drawn.dots[1] == (348.0, 10.0, "1 [0.500, 1] at 10 queries")
    assert chart.description == "0.000 at 0.000, 1 at 10 queries."


def test_one_interval_is_a_bar_and_one_value_has_an_axis() -> None:
    # The axis is longer than the interval by 6% at both ends: 1.88 to 4.12.
    (drawn,) = Chart("One", "queries", [Series("", [Point(8, 3.0, 2.0, 4.0)])]).drawn()
    assert (drawn.band, drawn.bars) == ("", [(348.0, 177.5, 19.5)])
    (flat,) = Chart("Flat", "queries", [Series("", [Point(0, 0.0)])], from_zero=True).drawn()
    assert flat.dots[0][:2] == (46.0, 187.0)


def test_runs_beyond_the_colours_are_told_apart_by_dashes() -> None:
    styles = [Series("", [], place).style for place in range(24)]
    assert len(set(styles)) == 24
    assert Series("", [], 2, dashed=True).style == "c2 dashed"


def test_long_curves_have_no_dots() -> None:
    points = [Point(x, x) for x in range(41)]
    assert Chart("Long", "rounds", [Series("", points)]).drawn()[0].dots == []
    assert len(Chart("Short", "rounds", [Series("", points[1:])]).drawn()[0].dots) == 40


def test_trailing_means_by_hand() -> None:
    points = [Point(x, y) for x, y in enumerate((1.0, 2.0, 6.0, 1.0))]
    assert [point.y for point in trailing_means(points, 2)] == [1.0, 1.5, 4.0, 3.5]
    assert trailing_means(points, 1) == points


def test_numbers_are_short() -> None:
    assert [number_text(v) for v in (256.0, 5000.0, 0.0, 0.12345, -1.0)] == [
        "256",
        "5,000",
        "0.000",
        "0.123",
        "-1",
    ]
