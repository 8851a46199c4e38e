"""The benchmark: the timed workloads (``workloads.py``), and the rebuttal's table (``timings.py``)."""
