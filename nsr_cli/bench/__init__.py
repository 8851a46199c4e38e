"""The benchmark: what is timed (``workloads.py``), how (``stopwatch.py``), and the rebuttal's table (``timings.py``)."""
