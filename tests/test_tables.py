"""Tables as text: columns, the rule, and what is shown where nothing is known."""

import pytest

from warp_train.runtime.tables import aligned_lines, cell, ratio, text_table


def test_names_are_to_the_left_and_numbers_to_the_right_under_a_rule() -> None:
    assert text_table(("", "px", "score"), [("identity", "10.50", "1"), ("a", "–", "0.25")]) == (
        "             px  score\n"
        "----------------------\n"
        "identity  10.50      1\n"
        "a             –   0.25"
    )


def test_a_table_without_rows_is_its_header() -> None:
    assert text_table(("a", "b"), []) == "a  b\n----"


def test_other_columns_may_be_to_the_left() -> None:
    rows = [("a", "1 ms", "x"), ("bb", "10 ms", "yy")]
    assert aligned_lines(rows, left={0, 2}) == ["a    1 ms  x ", "bb  10 ms  yy"]


def test_rows_of_different_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="argument 2"):
        aligned_lines([("a", "b"), ("c",)])


def test_what_is_unknown_is_a_dash() -> None:
    assert cell(0.0, ".2f") == "0.00"
    assert cell(None, ".2f") == "–"


@pytest.mark.parametrize(
    ("value", "reference", "expected"),
    [(1.0, 4.0, 0.25), (0.0, 4.0, 0.0), (None, 4.0, None), (1.0, None, None), (1.0, 0.0, None)],
)
def test_a_ratio_needs_both_and_a_reference_above_zero(
    value: float | None, reference: float | None, expected: float | None
) -> None:
    assert ratio(value, reference) == expected
