"""Model: layers, networks and their export, prediction, and a summary of the layers."""
