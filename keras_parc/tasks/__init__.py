"""What a model is for: one folder a task."""
