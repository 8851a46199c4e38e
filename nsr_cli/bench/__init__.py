"""The benchmark: what is timed (``workloads.py``), the rebuttal's table (``timings.py``)."""
