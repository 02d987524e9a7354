"""Data: the competition's CSV files, cross-validation folds, augmentation, and the demo data."""
