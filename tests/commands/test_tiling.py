"""Images cut as the authors' code does, from the command line."""

import numpy as np
import pytest
from kept import records

from nsr_cli.data.images import write_png
from nsr_cli.runs.record import read_record


def test_it_scores_the_same_weights_in_a_record_of_its_own(nsr, tmp_path, trained, tiny):
    write_png(tmp_path / "one/a.png", np.random.default_rng(0).integers(0, 256, (176, 168, 3), dtype=np.uint8))
    line = f"ablate {tiny} tile=20 benchmarks=[./one]"  # four tiles a side and a little
    results = [nsr(line), nsr(f"{line} tiling=authors explain=true")]
    assert all(result.code == 0 and "training wdsr" not in result.out for result in results), results
    by_tiling = {r.spec.get("tiling"): r for r in map(read_record, records(tmp_path)) if r.benchmark != "embedded_val"}
    other, own = by_tiling["authors"], by_tiling[None]
    assert other.spec == {**own.spec, "tiling": "authors"} and other.run == own.run == trained.run
    assert other.tiling == own.tiling
    found, usual = (record.scores["rgb"].means["psnr"] for record in (other, own))
    assert found != usual and found == pytest.approx(usual, abs=1)
    lines = [line.split("|") for line in results[1].out.splitlines() if line.startswith("| rgb")]
    shown = {
        tile.strip(): psnr.strip()
        for _, _, degraded, restored, measured, border, tile, psnr, *_ in lines
        if (degraded.strip(), restored.strip(), measured.strip(), border.strip()) == ("rounded", "rounded", "rgb", "8")
    }
    assert (shown["20"], shown["20, authors'"]) == (f"{usual:.4f}", f"{found:.4f}")


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("train sparsity=none", "model=wdsr sparsity=none"),
        ("train sparsity=uniform", "model=wdsr sparsity=uniform"),
        ("eval model=bicubic", "model=bicubic sparsity=none"),
    ],
)
def test_it_is_for_what_their_code_cuts(nsr, tmp_path, line, what):
    result = nsr(f"{line} tiling=authors" + " blocks=1 units=4 steps=3" * line.startswith("train"))
    wanted = f"tiling=authors: their code cuts images for model=wdsr with gates; this is {what}\n"
    assert (result.code, result.err) == (2, f"nsr {line.split()[0]}: {wanted}")
    assert not list(tmp_path.glob("results/runs/*/*.pt"))
