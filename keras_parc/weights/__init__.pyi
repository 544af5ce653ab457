"""The names that editors see, and that `__init__.py` imports at first use."""

from .names import load_state_dict as load_state_dict
from .torch_file import read_torch_file as read_torch_file
