"""Handwriting: from an image file to the digits in it."""
