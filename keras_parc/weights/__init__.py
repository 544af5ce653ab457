"""Weights from elsewhere: presets, safe reading of PyTorch files, name maps."""

from keras_parc.weights.names import load_state_dict
from keras_parc.weights.torch_file import read_torch_file

__all__ = ["load_state_dict", "read_torch_file"]
