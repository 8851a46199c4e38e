"""Sweeps: many runs as jobs, in this process, side by side on this machine, or on Slurm; each end is reported.

A :class:`~nsr_cli.launch.cells.Cell` is a combination of overrides and the run that it asks for. A dispatcher runs the
unfinished cells: ``dispatch.py`` one after the other, ``local.py`` side by side, ``on_slurm.py`` on a cluster.
``sweep.py`` holds the folder of a sweep, ``job.py`` the code of a job, ``progress.py`` the progress of jobs.
"""
