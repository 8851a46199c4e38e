"""Sweeps: many runs as jobs, in this process, side by side on this machine, or on Slurm; each end is reported.

A :class:`~nsr_cli.launch.cells.Cell` is a combination of overrides and the run that it asks for. A dispatcher has the
cells done that are not: ``dispatch.py`` one after the other, ``local.py`` side by side, ``on_slurm.py`` on a cluster.
``sweep.py`` is the folder of a sweep, ``job.py`` what runs in a job, ``progress.py`` how jobs do.
"""
