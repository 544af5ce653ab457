"""The command `keras-parc`."""
