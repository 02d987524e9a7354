"""Kaggle: client, download, submission, notebook and kernel."""
