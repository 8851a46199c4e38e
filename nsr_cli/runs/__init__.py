"""Runs: what a run is, what of it is on the disk, and how the rest is made.

A :class:`~nsr_cli.runs.spec.Spec` says all that decides a run's numbers; its signature names the run's folder and its
records. A :class:`~nsr_cli.runs.run.Request` says the rest: where, on what, which benchmarks. ``stored`` answers what
is missing, ``perform`` makes it. Nothing here knows Hydra.
"""
