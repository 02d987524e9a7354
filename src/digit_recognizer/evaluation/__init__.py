"""Evaluation: metrics, figures, reports and comparisons, from labels and probabilities."""
