"""nsr table from the command line, on runs of a second: which seeds it shows, and what it replaces."""

import pytest

from nsr_cli.commands import table
from nsr_cli.report.experiments import Experiment, Line


@pytest.fixture
def two_rows(tiny, monkeypatch):
    """`nsr table mine`, of two rows."""
    rows = tuple(Line(gate, f"nsr ablate sparsity={gate} {tiny}") for gate in ("none", "softmax"))
    mine = Experiment("mine", "Mine", "A text.", rows, "Gate", baseline="none", printed_on="div2k_val")
    monkeypatch.setattr(table, "load", lambda folder, name: mine)


def test_a_table_of_fewer_seeds_does_not_replace_the_one_of_all(nsr, tmp_path, tiny, two_rows):
    tables = tmp_path / "results/tables/smoke"
    assert nsr(f"ablate -m sparsity=none,softmax seed=0,3 {tiny}").code == 0
    shown = nsr("table mine")
    assert "; seeds 0, 3;" in shown.out and str(tables / "mine.md") in shown.out
    of_all = (tables / "mine.md").read_text()

    fewer = nsr("table mine seeds=[3]")
    assert fewer.code == 0 and "Not shown, though there are records: seed 0; seeds=[0,3] shows all\n" in fewer.out
    assert str(tables / "mine-seed-3.md") in fewer.out and "; seeds 3;" in (tables / "mine-seed-3.md").read_text()
    assert (tables / "mine.md").read_text() == of_all

    assert nsr(f"ablate sparsity=none seed=5 {tiny}").code == 0  # of the other row there is none
    partly = nsr("table mine")
    assert "Not shown, though there are records: seed 5; seeds=[0,3,5] shows all\n" in partly.out
    assert (tables / "mine.md").read_text() == of_all

    more = nsr("table mine seeds=[0,3,5]")
    assert "(2 of 3 seeds)" in more.out and str(tables / "mine.md") in more.out and "Not shown" not in more.out


def test_where_nothing_is_measured_the_seed_is_0(nsr, two_rows, tiny):
    assert f"nsr ablate -m sparsity=none {tiny} protocol=smoke seed=0 " in nsr("table mine").out
