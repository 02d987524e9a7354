"""Development scripts: they measure the kit and other recipes, and train the line detector. No part of the package."""
