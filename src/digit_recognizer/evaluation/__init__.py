"""Evaluation: metrics, figures, reports and comparisons."""
