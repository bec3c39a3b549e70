"""Scores for generated images on feature arrays, each named for what it is."""
