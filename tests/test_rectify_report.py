"""What `rectify` prints of many records: counts, warnings and the last line."""

from pathlib import Path
from typing import Any

import pytest

from warp_train.commands.rectify_report import RectifyReport


def told(
    records: list[dict[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> list[str]:
    report = RectifyReport(tmp_path / "rectify.jsonl", len(records))
    for record in records:
        report.add(record)
    report.close()
    return [line.removeprefix("warp-train: ") for line in capsys.readouterr().err.splitlines()]


def record(number: int, *warnings: str, **more: Any) -> dict[str, Any]:
    corrected = {"output": "o.jpg", "resampled": True, "mode_used": "lens"}
    return {"input": f"{number}.jpg", **corrected, "warnings": list(warnings), **more}


def test_photos_that_are_left_alone_are_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    alone = {"resampled": False, "mode_used": "unchanged", "left_alone": "crs:AlreadyApplied"}
    records = [record(0), record(1, **alone), record(2, **alone), record(3, output=None, **alone)]
    assert told(records, tmp_path, capsys) == [
        "1 corrected, 3 left alone: corrected already (lens 1, unchanged 3)"
    ]


def test_warnings_are_grouped_by_their_text(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    records = [record(0, "one"), record(1, "two", "two"), record(2, "two\nlines"), record(3)]
    records += [record(4, "two"), {"input": "5.jpg", "error": "5.jpg: damaged"}]
    assert told(records, tmp_path, capsys) == [
        "error: 5.jpg: damaged",
        "warning: 1.jpg and 1 more: two",
        "warning: 0.jpg: one",
        "warning: 2.jpg: two lines",
        "5 corrected, 1 failed, 4 with warnings, see rectify.jsonl (lens 5)",
    ]


def test_many_warnings_are_ten_lines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    records = [record(n, f"kind {n}", "all") for n in range(1500)]
    lines = told(records, tmp_path, capsys)
    assert len(lines) == 11
    assert lines[0] == "warning: 0.jpg and 1499 more: all"
    assert lines[-2] == "warning: 1492 more warnings of other kinds"
    assert lines[-1] == "1500 corrected, 1500 with warnings, see rectify.jsonl (lens 1500)"
    assert len(told(records[:9], tmp_path, capsys)) == 11
