"""Labels: a preference in [0, 1] with a weight."""

from __future__ import annotations

import math

import pytest

from text_duel.verdicts import Label


def test_only_a_half_is_a_tie() -> None:
    assert Label(0.5).is_tie
    for preference in (0.0, math.nextafter(0.5, 0.0), math.nextafter(0.5, 1.0), 1.0):
        assert not Label(preference).is_tie
    assert Label(0.7) == Label(0.7, 1.0) != Label(0.7, 2.0)
    assert Label(0.7, 0.0).weight == 0.0


@pytest.mark.parametrize("preference", [-1e-9, 1.0 + 1e-9, math.nan, math.inf])
def test_a_preference_out_of_range_is_refused(preference: float) -> None:
    with pytest.raises(ValueError, match=r"preference: .* is outside \[0, 1\]"):
        Label(preference)


@pytest.mark.parametrize("weight", [-1e-9, math.nan, math.inf])
def test_a_weight_out_of_range_is_refused(weight: float) -> None:
    with pytest.raises(ValueError, match=r"weight: .* is outside \[0, inf\)"):
        Label(1.0, weight)
