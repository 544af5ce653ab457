"""The paper's tables and figures, made anew: `keras-parc paper`, `make paper`."""
