"""Classification: data, training, measuring, predicting, reporting."""
