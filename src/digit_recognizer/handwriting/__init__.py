"""Handwriting: find and read the digits in an image file."""
