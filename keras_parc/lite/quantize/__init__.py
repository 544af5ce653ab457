"""int8: ranges, calibration, corrected biases."""
