"""Reports: tables, verdicts and figures, each a function of experiments/ and of the records.

``experiments.py`` reads a YAML, ``study.py`` finds its cells and those missing, ``claims.py`` tests claims,
``tables.py`` renders; ``plots.py``, ``pictures.py`` and ``restored.py`` draw. Nothing here trains, and only
``restored.py`` imports torch.
"""
