"""Kaggle: download the data, write and submit predictions, run the notebook."""
