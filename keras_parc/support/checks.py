"""Checks of arguments."""


def at_least_one(**values: int) -> None:
    """Refuse numbers below 1, with their names."""
    for name, value in values.items():
        if value < 1:
            raise ValueError(f"`{name}` must be at least 1, got {value}.")
