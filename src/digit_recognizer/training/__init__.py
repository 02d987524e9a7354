"""Training: one member, the ensemble, devices, and the run's folder."""
