"""A model rewritten for inference: same function, other operations."""
