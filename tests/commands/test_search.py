"""hydra/sweeper=optuna: trials are runs like any others, and the best is the one of the highest PSNR."""

import re

import pytest
from kept import records

from nsr_cli.commands.hydra_setup import register_with_hydra
from nsr_cli.runs.record import first_psnr, read_record

SEARCH = "ablate -m hydra/sweeper=optuna"


def found_by(out: str) -> tuple[list[str], float]:
    """(the tried values of tau, the best PSNR) as they are printed."""
    return re.findall(r"^1 of 1: .*?tau=(\S+)", out, re.MULTILINE), float(re.search(r"Best value: (\S+)", out)[1])


def test_a_search_finds_the_highest_psnr_and_goes_on_where_it_was_stopped(nsr, tmp_path, tiny):
    pytest.importorskip(
        "hydra_plugins.hydra_optuna_sweeper", reason="needs the extra optuna: pip install 'nsr[optuna]'"
    )
    line = f"{SEARCH} {tiny} 'tau=tag(log,interval(0.1,10))' 'cardinality=choice(1,2,4)'"
    result = nsr(f"{line} hydra.sweeper.n_trials=1 hydra.sweeper.storage=sqlite:///study.db")
    assert result.code == 0, result.err
    (first,), _ = found_by(result.out)
    assert (tmp_path / "study.db").exists()
    result = nsr(f"{line} hydra.sweeper.n_trials=2")
    assert result.code == 0, result.err
    tried, best = found_by(result.out)
    made = {path: read_record(path) for path in records(tmp_path)}
    assert len(tried) == len(made) == 2 and tried[0] == first and result.out.count("training ") == 1
    assert best == pytest.approx(max(first_psnr({"": record}) for record in made.values()))
    assert {0.1 <= float(tau) <= 10 for tau in tried} == {True}


def test_without_the_package_it_is_named(nsr, monkeypatch):
    from hydra.core.config_store import ConfigStore

    register_with_hydra()  # loads the package's configs, which are taken away then
    monkeypatch.setitem(ConfigStore.instance().repo["hydra"]["sweeper"], "sampler", {})
    result = nsr(f"{SEARCH} tau=1,2")
    assert (result.code, result.err) == (
        2,
        "nsr ablate: hydra/sweeper=optuna needs its package: pip install 'nsr[optuna]'\n",
    )


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("'tau=interval(2,1)'", "The `low` value must be smaller than or equal to the `high` value"),
        ("'tau=tag(log,interval(0,10))'", "The `low` value must be larger than 0 for a log distribution"),
        ("'tau=interval(1,2)' hydra.sweeper.direction=up", "Please set either 'minimize' or 'maximize' to direction."),
        ("'tau=interval(1,2)' hydra.sweeper.n_trials=abc", "'>' not supported between instances of 'str' and 'int'"),
        ("tau=1,2 hydra/launcher=slurm wait=false", "wait=false: it needs the scores of its runs"),
        ("'tau=interval(1,2)' dry_run=true", "dry_run=true: what it tries depends on scores"),
        ("tau=1,2 hydra.sweeper.n_jobs=0", "expected hydra.sweeper.n_jobs of 1 or above"),
        ("'tau=glob(*)'", "expected choice(...), range(...) or interval(...) for what is searched"),
    ],
)
def test_a_search_that_cannot_be_is_one_line(nsr, line, message):
    pytest.importorskip("hydra_plugins.hydra_optuna_sweeper")
    result = nsr(f"{SEARCH} {line}")
    assert result.code == 2  # what Optuna logs stands before it
    assert result.err.splitlines()[-1].startswith(f"nsr ablate: hydra/sweeper=optuna: {message}")
