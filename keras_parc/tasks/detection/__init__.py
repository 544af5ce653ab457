"""Detection: data, training, measuring, predicting, reporting."""
