"""The names that editors see, and that `__init__.py` imports at first use."""

from . import average as average
from . import distribute as distribute
from . import fit as fit
from . import input_rate as input_rate
from . import rates as rates
from . import recipes as recipes
from . import sampler as sampler
from . import schedule as schedule
from . import train as train
from .distribute import Devices as Devices
from .fit import Interrupted as Interrupted
from .recipe import Recipe as Recipe
from .recipes import find_recipe as find_recipe
from .recipes import list_recipes as list_recipes
from .recipes import override as override
