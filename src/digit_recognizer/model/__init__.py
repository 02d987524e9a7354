"""Model: layers, networks and their export, and prediction."""
