"""How fast the operations are, beside other implementations in the same run: prints a Markdown table.

    .venv/bin/python tests/bench_ops.py             # a minute
    .venv/bin/python tests/bench_ops.py --memory    # and the memory that a 100-megapixel image takes: minutes more

Figures depend on the machine and its load, so nothing is asserted; ratios are of medians, taken in turn.
"""

import os

os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"))

import argparse
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import cv2
import numpy as np
import skimage.data
import torch
from skimage.metrics import structural_similarity
from tabulate import tabulate
from torch.nn.utils import parametrize

sys.path.extend(str(Path(__file__).parent / room) for room in ("data", "ops"))

from dense_gather import gather, gather_passes
from plain_sampler import plain_batch

from nsr_cli.classical.bicubic import upscale
from nsr_cli.data.cache import cached_images
from nsr_cli.data.catalog import image_paths
from nsr_cli.data.images import write_png
from nsr_cli.data.sampler import Example, PatchSampler
from nsr_cli.engine.evaluator import evaluate
from nsr_cli.models.tiled import restore_bands, tiling_of
from nsr_cli.models.wdsr import WDSR
from nsr_cli.ops.metrics import ssim
from nsr_cli.ops.resize import imresize
from nsr_cli.tasks.sr import SuperResolution

PHOTO = skimage.data.astronaut()  # 512x512 RGB
NOISY = cv2.add(PHOTO, np.random.default_rng(0).integers(0, 30, PHOTO.shape, np.uint8))
FACTORS = {"1/2": 1 / 2, "1/3": 1 / 3, "1/4": 1 / 4, "x2": 2, "x3": 3, "x4": 4}


def medians(*calls: Callable, runs: int, clock: Callable[[], float] = time.perf_counter) -> list[float]:
    """Median seconds of each call; they take turns, after one round that is not counted."""
    times = [[] for _ in calls]
    for _ in range(runs + 1):
        for call, seconds in zip(calls, times, strict=True):
            start = clock()
            call()
            seconds.append(clock() - start)
    return [statistics.median(seconds[1:]) for seconds in times]


def versus(what: str, ours: Callable, theirs: Callable, aim: str, runs: int) -> list[str]:
    own, other = medians(ours, theirs, runs=runs)
    return [what, f"{1000 * own:.2f} ms", f"{1000 * other:.2f} ms", f"{other / own:.1f}x", aim]


def resizing(runs: int) -> list[list[str]]:
    rows = []
    for name, factor in FACTORS.items():
        passes = gather_passes(PHOTO.shape[:2], factor)  # outside of the clock, as imresize remembers its weights
        ours, theirs = partial(imresize, PHOTO, factor), partial(gather, PHOTO, passes)
        assert np.array_equal(ours(), theirs())
        rows.append(versus(f"imresize {name}, 512x512x3 uint8; dense gather", ours, theirs, "5x", runs))
    return rows


def similarity(runs: int) -> list[list[str]]:
    pair = NOISY[:, :, 1], PHOTO[:, :, 1]
    theirs = partial(structural_similarity, *pair, data_range=255, use_sample_covariance=False)
    gaussian = partial(theirs, gaussian_weights=True, sigma=1.5)
    return [
        versus("SSIM Gaussian, 512x512; scikit-image", partial(ssim, *pair), gaussian, "4x", runs),
        versus(
            "SSIM 8x8, 512x512; scikit-image's 7x7 (it has odd ones only)",
            partial(ssim, *pair, window="uniform"),
            partial(theirs, win_size=7),
            "",
            runs,
        ),
    ]


def sampling(runs: int) -> list[str]:
    """Patches of the loader alone, by the seconds that a core worked: so many a core makes beside other work."""
    size = {"scale": 2, "patch": 48, "batch": 16, "patches_per_image": 100, "seed": 0}
    names = [str(i) for i in range(100)]  # more than a core's own memory holds
    with tempfile.TemporaryDirectory() as folder:
        keep = partial(cached_images, Path(folder), sources=[], names=names, say=lambda text: None)
        truths = keep("truths", make=lambda i: np.roll(PHOTO, i, axis=0))
        degraded = keep("degraded", make=lambda i: imresize(truths[i], 1 / 2))
        examples = [Example(*example) for example in zip(names, degraded, truths, strict=True)]
        sampler, steps = PatchSampler(examples, **size), [iter(range(10**9)) for _ in range(2)]
        assert torch.equal(sampler(7).truth / 255, plain_batch(examples, **size, step=7).truth)
        own, other = medians(
            lambda: sampler(next(steps[0])),
            lambda: plain_batch(examples, **size, step=next(steps[1])),
            runs=20 * runs,
            clock=time.thread_time,
        )
    rates = [f"{size['batch'] / seconds:,.0f} a second" for seconds in (own, other)]
    return ["training patches, 48x48 RGB, x2, by 16; in float, one by one", *rates, f"{other / own:.1f}x", "20,000"]


@torch.no_grad()
def tiling(runs: int) -> list[str]:
    """A whole network over an image: tile by tile, and from one batch of all tiles."""
    network = WDSR(2, blocks=4, units=32, width=4, gate="softmax", sparsity_groups=4, cardinality=16).eval()
    tiles = tiling_of(network)

    def ours() -> np.ndarray:
        with parametrize.cached():  # as `evaluate` does
            return np.concatenate(list(restore_bands(network, PHOTO, 2, tiles)))

    def at_once() -> np.ndarray:
        places = [(top, left) for top in tiles.starts(512) for left in tiles.starts(512)]
        whole = torch.from_numpy(PHOTO).permute(2, 0, 1) / 255
        restored = network(torch.stack([whole[:, y : y + tiles.side, x : x + tiles.side] for y, x in places]))
        total, covered = torch.zeros(3, 1024, 1024), torch.zeros(1024, 1024)
        for (top, left), tile in zip(places, restored, strict=True):
            first_y, first_x = (tiles.margin * (start > 0) for start in (top, left))
            last_y, last_x = (tiles.side - tiles.margin * (start < 512 - tiles.side) for start in (top, left))
            target = (slice(2 * (t + a), 2 * (t + b)) for t, a, b in ((top, first_y, last_y), (left, first_x, last_x)))
            rows, columns = target
            total[:, rows, columns] += tile[:, 2 * first_y : 2 * last_y, 2 * first_x : 2 * last_x]
            covered[rows, columns] += 1
        return (total / covered).permute(1, 2, 0).numpy()

    assert np.abs(ours() - at_once()).max() < 1e-4
    return versus("sparse WDSR, 512x512 RGB to x2, by tiles; all tiles in a batch", ours, at_once, "1.5x", runs // 5)


def set5(root: Path) -> list[str]:
    paths, task = image_paths("set5", root), SuperResolution(scale=2)
    used = task.conventions("set5", ["luma", "rgb"], root)
    (seconds,) = medians(lambda: list(evaluate(partial(upscale, scale=2), paths, task, used)), runs=3)
    return [f"bicubic on Set5, x2, {len(used)} conventions", f"{seconds:.2f} s", "", "", ""]


def memory() -> list[str]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "large.png"
        in_its_own_process(write_large, path)
        before, peak, seconds = in_its_own_process(evaluate_large, path)
    seen = f"{peak / 2**30:.2f} GiB ({before / 2**30:.2f} before), {seconds:.0f} s"
    return ["peak memory: small WDSR, x2, 10000x10000 RGB", seen, "", "", "under 3 GiB"]


def in_its_own_process(function: Callable, *arguments: Path) -> tuple | None:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def write_large(path: Path) -> None:
    """100 megapixels that compress as badly as a photograph does: copies of one under noise."""
    image = np.tile(PHOTO, (20, 20, 1))[:10000, :10000]
    generator = np.random.default_rng(0)
    for rows in np.array_split(image, 100):
        cv2.add(rows, generator.integers(0, 8, rows.shape, np.uint8), dst=rows)
    write_png(path, image)


def evaluate_large(path: Path) -> tuple[float, float, float]:
    """Bytes resident at most, before and after, and seconds."""
    torch.set_num_threads(1)
    before, start = peak_bytes(), time.perf_counter()
    network = WDSR(2, blocks=1, units=4, width=1, gate="softmax", sparsity_groups=4)
    task = SuperResolution(scale=2)
    for _ in evaluate(network, [path], task, task.conventions("div2k_val", ["rgb"], Path()), tiling_of(network)):
        pass
    return before, peak_bytes(), time.perf_counter() - start


def peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024  # Linux counts KiB


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--memory", action="store_true", help="also the memory of a 100-megapixel image (minutes)")
    parser.add_argument("--runs", type=int, default=15, help="timings that a median is of")
    chosen = parser.parse_args()
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    large = [memory()] if chosen.memory else []  # first: a process starts with the peak of the one that starts it
    rows = [*resizing(chosen.runs), *similarity(chosen.runs), sampling(chosen.runs), tiling(chosen.runs)]
    root = Path(os.environ.get("NSR_DATA", "data"))
    if (root / "Set5").is_dir():
        rows.append(set5(root))
    print(tabulate(rows + large, ["", "nsr", "other", "ratio", "aim"], tablefmt="pipe", disable_numparse=True))


if __name__ == "__main__":
    main()
