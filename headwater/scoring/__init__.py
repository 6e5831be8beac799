"""A quality scorer of one's own: label a sample, fit a regression, calibrate it, apply it.

``choose`` draws the sample, ``labels`` keeps what annotators say (``annotate`` asks a language model,
``page`` a person), ``training`` fits and cross-validates, ``calibration`` maps raw scores to expected labels,
``artifact`` is the file a scorer is, ``fit`` and ``store`` keep it in the lake.
"""
