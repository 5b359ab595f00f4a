"""The table of what cleaning leaves to ship: a row for every way, with the multiple that was used."""

from __future__ import annotations

import pytest

from tools.edge import compaction as edge


@pytest.mark.slow
def test_every_way_has_a_row_that_names_its_multiple() -> None:
    subject = edge.Subject("ResNet-18", edge.MODELS / "resnet18_badnets.onnx")
    rows = [row.strip("| ").split(" | ") for row in edge.rows(subject, (1.5,), (8, 1))]
    assert [row[2] for row in rows] == ["zeroed", "compact, multiples of 8", "compact, multiples of 1"]
    assert all(len(row) == edge.HEAD.count(" | ") + 1 for row in rows)
    taken = [int(row[4] or 0) for row in rows]
    assert taken[0] == 0 < taken[1] < taken[2] <= int(rows[2][3])


@pytest.mark.slow
def test_multiples_are_set_against_channels_set_to_zero() -> None:
    subject = edge.Subject("ResNet-18", edge.MODELS / "resnet18_badnets.onnx")
    (row,) = edge.ratios(subject, (1.5,), (8, 1))
    shares = [float(cell.split("(")[1].rstrip("% )|")) for cell in row.strip("| ").split(" | ")[4:]]
    assert 80 < shares[1] < shares[0] < 100
