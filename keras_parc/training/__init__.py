"""Training with `model.fit`: recipes, and runs that survive a kill."""
