"""The samples of a batch side by side, one on each thread of a CPU."""

import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache

import torch


@lru_cache(maxsize=1)
def workers(threads: int) -> ThreadPoolExecutor:
    """Threads whose operators use one core each."""
    started = threading.Barrier(threads + 1)

    def start() -> None:
        torch.get_num_threads()  # a thread's first look takes the number of the process over
        torch.set_num_threads(1)
        started.wait()

    pool = ThreadPoolExecutor(threads, "nsr-sample", initializer=start)
    for _ in range(threads):
        pool.submit(int)  # starts a thread, because the others wait
    started.wait()
    torch.set_num_threads(threads)  # of this thread; for some libraries the last call counts in all threads
    return pool


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=workers.cache_clear)  # a forked process has no threads but one


def for_each_sample(run: Callable[[int], None], samples: int, device: torch.device) -> None:
    """Call ``run(i)`` for each sample i; on a CPU's threads side by side, if no gradients of it are recorded.

    A convolution of one sample is small: two cores that share it wait for each other.
    """
    threads = min(torch.get_num_threads(), samples)
    if device.type != "cpu" or threads < 2 or torch.is_grad_enabled():
        for i in range(samples):
            run(i)
        return

    mode = torch.inference_mode if torch.is_inference_mode_enabled() else torch.no_grad  # a thread begins without

    def run_part(part: int) -> None:
        with mode():
            for i in range(part * samples // threads, (part + 1) * samples // threads):
                run(i)

    for _ in workers(torch.get_num_threads()).map(run_part, range(threads)):
        pass
