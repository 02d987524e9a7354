"""Model: layers, networks, and export to stock Keras."""
