"""Benchmarks of the kit and of other people's recipes, and what makes the kit's own data; not part of the package."""
