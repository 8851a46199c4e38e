"""Reports: tables, verdicts and figures, each a function of experiments/ and of what is recorded.

``experiments.py`` reads a YAML, ``study.py`` finds its cells and says what is missing, ``claims.py`` judges,
``tables.py`` renders; ``plots.py``, ``pictures.py`` and ``restored.py`` draw. Nothing here trains, and only
``restored.py`` imports torch.
"""
