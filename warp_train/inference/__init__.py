"""Applies trained models to photos: prediction, safety check, crop, resampling, files."""
