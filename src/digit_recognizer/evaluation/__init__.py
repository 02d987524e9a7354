"""Evaluation: metrics, calibration, figures, reports and comparisons, from labels and probabilities."""
