"""How each Keras operation is read into a `Graph`: one short function for each; see `table`."""
