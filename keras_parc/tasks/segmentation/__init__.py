"""Segmentation: data, training, measuring, predicting, reporting."""
