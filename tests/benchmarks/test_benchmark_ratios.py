"""LAPACK's test ratios of all libraries are measured eager and compiled."""

import pytest

from benchmarks import ratios
from kfac_core.testing.matrices import GATE


@pytest.mark.parametrize(
    ("library", "ways", "dtypes"),
    [
        ("numpy", ["eager"], ratios.DTYPES),
        ("torch", ["eager", "compiled"], ["float32"]),
    ],
)
def test_every_way_and_dtype_has_a_ratio_of_each_operation(
    library, ways, dtypes, monkeypatch
):
    pytest.importorskip(library)
    monkeypatch.setattr(ratios, "DTYPES", dtypes)
    found = dict(ratios.measured((library,), (2,)))
    assert [*found] == [
        f"{library}, {way}, {dtype}" for way in ways for dtype in dtypes
    ]
    assert len({tuple(own.operation for own in each) for each in found.values()}) == 1
    assert all(0 < own.ratio <= GATE for each in found.values() for own in each)


def test_a_ratio_beyond_the_gate_fails(capsys, monkeypatch):
    arguments = ["ratios", "--library", "numpy", "--orders", "3"]
    monkeypatch.setattr("sys.argv", arguments)
    ratios.main()
    assert "| numpy, eager, float32 | " in capsys.readouterr().out
    monkeypatch.setattr("kfac_core.verify.lapack.GATE", 0.0)
    with pytest.raises(SystemExit, match="1"):
        ratios.main()
