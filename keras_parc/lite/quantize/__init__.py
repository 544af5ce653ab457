"""int8: ranges, calibration, fine-tuning."""
