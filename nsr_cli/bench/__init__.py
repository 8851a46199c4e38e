"""The benchmark: what is timed (``workloads.py``), how (``stopwatch.py``), the rebuttal's table (``timings.py``)."""
