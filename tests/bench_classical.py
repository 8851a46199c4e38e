"""How fast the classical methods are, beside implementations that treat one group, or pixel, at a time.

    .venv/bin/python tests/bench_classical.py             # a minute: a part of a photograph
    .venv/bin/python tests/bench_classical.py --side 256  # a whole image of Set12's size: a quarter of an hour

One core, by the seconds that it worked, so that other work on the machine hardly counts. Both must agree to 1e-6.
More than half of the time of WNNM is LAPACK's, for the eigenvectors of a 49 x 49 matrix for each group: 120 of 190
microseconds. Ten times faster than one group at a time would be 60 microseconds in all. Tried instead of
torch.linalg.eigh, in float64 (microseconds for each matrix; 11 of the 49 eigenvalues pass the threshold):

- eigenvalues alone 50; LAPACK's eigenvectors above the threshold alone 165, because its bisection is slow;
- tridiagonal form 24, and with eigenvectors by twisted factorisation 80 to 100: WNNM takes 6 to 11 % less time, and in
  float32 no less;
- multiplying groups of equal rank together: 0 to 4 % less;
- subspace iteration was not built: eigenvalue r + 8 is 0.2 to 0.8 of eigenvalue r, the last one that counts, so 1e-11
  takes dozens of products of 4 microseconds each.
"""

import os

os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"))

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import skimage.data
import torch
from tabulate import tabulate

sys.path.append(str(Path(__file__).parent / "classical"))

from plain_sadct import plain_deblock
from plain_wnnm import plain_wnnm

from nsr_cli.classical.sadct import artifact_level, deblock
from nsr_cli.classical.wnnm import SETTINGS, denoise
from nsr_cli.data.degrade import add_noise, jpeg

PHOTO = cv2.cvtColor(skimage.data.astronaut(), cv2.COLOR_RGB2GRAY)


def versus(what: str, ours: Callable[[], np.ndarray], theirs: Callable[[], np.ndarray], aim: str) -> list[str]:
    """A line of the table; each is called once, for it takes seconds."""
    seconds, results = [], []
    for call in (ours, theirs):
        began = time.process_time()
        results.append(call())
        seconds.append(time.process_time() - began)
    apart = np.abs(results[0] - results[1]).max()
    assert apart < 1e-6, f"{what}: the results are {apart} apart"
    own, other = seconds
    return [what, f"{own:.2f} s", f"{other:.2f} s", f"{other / own:.1f}x", aim, f"{apart:.0e}"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--side", type=int, default=64, help="of the part, in pixels")
    side = parser.parse_args().side
    torch.set_num_threads(1)
    clean, rows = PHOTO[60 : 60 + side, 180 : 180 + side], []
    for limit, sigma in ((20, 15), (40, 25), (60, 50)):
        noisy = add_noise(clean, sigma, np.random.default_rng(0)).astype(np.float64)
        call = noisy, sigma, SETTINGS[limit]
        what = f"WNNM, sigma {sigma}, {side}x{side}; one group at a time"
        rows.append(versus(what, lambda call=call: denoise(*call), lambda call=call: plain_wnnm(*call), "10x"))
    decoded, level = jpeg(clean, 10).astype(np.float64), artifact_level(10)
    what = f"SA-DCT, quality 10, {side}x{side}; one pixel at a time"
    rows.append(versus(what, lambda: deblock(decoded, level), lambda: plain_deblock(decoded, level), ""))
    head = ["", "nsr", "other", "ratio", "aim", "apart"]
    print(tabulate(rows, head, tablefmt="pipe", disable_numparse=True))


if __name__ == "__main__":
    main()
