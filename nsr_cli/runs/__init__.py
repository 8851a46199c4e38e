"""Runs: what a run is, which of its results are on the disk, and how the missing ones are made.

A :class:`~nsr_cli.runs.spec.Spec` holds all that decides a run's numbers. Its signature names the run's folder and
records. A :class:`~nsr_cli.runs.run.Request` holds the rest: folders, device, benchmarks. ``stored`` lists what is
missing, ``perform`` makes it. Nothing here knows Hydra.
"""
