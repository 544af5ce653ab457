"""A rewritten model, compared with the one it was made from; what differs is left out."""

import functools
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import ops, tree

from keras_parc.lite.rewrite.graph import Graph, Rule
from keras_parc.lite.rewrite.kept import in_float32
from keras_parc.lite.rewrite.signature import ModelInputs
from keras_parc.models.inputs import InputScale
from keras_parc.support import compat
from keras_parc.support.text import first_of, one_line

log = logging.getLogger(__name__)

TOLERANCE = 1e-4  # of the largest value of an output
_SENSITIVE = 30  # times what rounding the inputs alone does, as every layer rounds
_LARGEST = 1e-2  # tolerance
_BLOCKS = 8  # a side, of a random image
_CULPRITS = 8  # layers left out one by one; then the whole model is

Arrays = list[np.ndarray]


@dataclass(frozen=True)
class Left:
    """What is left out of a rewrite because the result would differ from the model.

    Args:
        operations: The operations of the model that stay as they are.
        rules: The rules that are not applied.
        whole: Whether the whole model stays as it is.
    """

    operations: tuple[Any, ...] = ()
    rules: tuple[Rule, ...] = ()
    whole: bool = False

    def keeps(self, operation: Any) -> bool:
        """Whether an operation, or the model, stays as it is."""
        return self.whole or any(each is operation for each in self.operations)

    def __str__(self):
        if self.whole:
            return "the whole model stays as it is"
        layers = [f"{each.name} ({type(each).__name__}) stays as it is" for each in self.operations]
        rules = [f"the rule {each.__name__} is left out" for each in self.rules]
        return ", ".join(layers + rules)


@dataclass
class Reference:
    """A model, and what it returns for samples of its inputs, computed when it is asked for.

    Args:
        model: The model.
        inputs: What it takes.
        samples: For each sample an array for each input, without the batch.
    """

    model: keras.Model
    inputs: ModelInputs
    samples: Sequence[Arrays]
    written: Sequence[str] = ()  # weights that the last model wrote when it was called

    @functools.cached_property
    def outputs(self) -> list[Arrays]:
        """An array for each output, of each sample."""
        return self.run(self.model)

    def run(self, model: keras.Model, samples: Sequence[Arrays] | None = None) -> list[Arrays]:
        """What a model returns for the samples, each in a batch of one."""
        return [self._run(model, each) for each in (samples or self.samples)]

    def _run(self, model: keras.Model, sample: Arrays) -> Arrays:
        tensors = [
            ops.convert_to_tensor(value[None], each.dtype)
            for value, each in zip(sample, self.inputs.entries, strict=True)
        ]
        structure = self.inputs.structure
        given = tree.pack_sequence_as(structure, tensors) if structure is not None else tensors[0]
        # Some layers write their state whenever they are called: here they do not.
        with in_float32(model), keras.StatelessScope() as scope:
            results = tree.flatten(model(given, training=False))
        self.written = [
            each.path
            for each in model.non_trainable_variables
            if scope.get_current_value(each) is not None
        ]
        return [np.asarray(ops.convert_to_numpy(each)) for each in results]

    def gap(self, found: Sequence[Arrays]) -> float:
        """How far outputs are from the model's, in parts of the largest; 0 if it does not matter.

        It does not matter up to 1e-4; nor, as far as rounding its inputs moves the outputs of a
        model; nor of a model that does not return the same again.
        """
        gap = difference(found, self.outputs)
        if gap > TOLERANCE:
            gap = difference(*([each[i] for i in self.calm] for each in (found, self.outputs)))
        return 0.0 if gap <= TOLERANCE or gap <= self.tolerance else gap

    @functools.cached_property
    def moved(self) -> list[float]:
        """How far rounding each sample moves the outputs; nothing of a model that gives NaN."""
        rounded = self.run(self.model, [_rounded(each) for each in self.samples])
        pairs = zip(rounded, self.outputs, strict=True)
        moved = [difference([a], [b]) for a, b in pairs]
        return [each if np.isfinite(each) else 0.0 for each in moved]

    @functools.cached_property
    def calm(self) -> list[int]:
        """The samples by which a model is judged: rounding hardly moves them, or the least of all.

        White noise makes some untrained networks chaotic, of which nothing can be told.
        """
        calm = [i for i, each in enumerate(self.moved) if _SENSITIVE * each <= TOLERANCE]
        return calm or [int(np.argmin(self.moved))]

    @functools.cached_property
    def tolerance(self) -> float:
        """How far another model may be from this one."""
        if difference(self.run(self.model), self.outputs) > TOLERANCE:
            return float("inf")  # it draws random numbers without a seed of Keras
        moved = max(self.moved[i] for i in self.calm)
        return max(TOLERANCE, min(_SENSITIVE * moved, _LARGEST))


def difference(found: Sequence[Arrays], expected: Sequence[Arrays]) -> float:
    """The largest difference of an output over its largest value; infinite where it cannot be told.

    Args:
        found: For each sample, an array for each output.
        expected: The same.

    Example:
        >>> round(difference([[np.array([1.0, 2.0])]], [[np.array([1.0, 2.5])]]), 2)
        0.2
    """
    worst = 0.0
    for each, wanted in zip(zip(*found, strict=True), zip(*expected, strict=True), strict=True):
        try:
            a, b = np.stack(each).astype("float64"), np.stack(wanted).astype("float64")
        except ValueError:
            return float("inf")
        finite = np.isfinite(b)
        if a.shape != b.shape or not np.array_equal(a[~finite], b[~finite], equal_nan=True):
            return float("inf")
        if not np.isfinite(a[finite]).all():
            return float("inf")
        if finite.any():
            gap, size = np.abs(a - b)[finite].max(), np.abs(b)[finite].max()
            worst = max(worst, gap / size if size else gap)
    return float(worst)


def _rounded(sample: Arrays) -> Arrays:
    """A sample with every real number moved up or down by two units in the last place."""
    generator = np.random.default_rng(0)
    return [
        each * (1 + generator.choice(np.float32([-(2**-22), 2**-22]), each.shape))
        if each.dtype == np.float32
        else each
        for each in sample
    ]


def random_samples(inputs: ModelInputs, scale: InputScale | None) -> list[Arrays]:
    """Random inputs: of a model that says what it takes, random pixels brought to that scale.

    The last one is of blocks of colour, more like an image than noise is.

    Args:
        inputs: What the model takes.
        scale: What it says of its images, if it does.
    """
    generator, samples = np.random.default_rng(0), []
    for draw, smooth in ((generator.random, 0), (generator.normal, 0), (generator.random, 1)):
        sample = []
        for each in inputs.entries:
            shape, is_map = each.shape, len(each.shape) == 3
            if smooth and is_map:
                shape = (*(min(side, _BLOCKS) for side in shape[:2]), shape[2])
            if each.dtype == "float32" and scale is not None and inputs.image:
                value = scale.of(generator.integers(0, 256, shape).astype("float32"))
            elif each.dtype == "float32":
                value = draw(size=shape)
            else:  # a number that every table of embeddings has
                value = generator.integers(0, 2, shape)
            if shape != each.shape:
                places = zip(each.shape[:2], shape[:2], strict=True)
                value = value[np.ix_(*(np.arange(a) * b // a for a, b in places))]
            sample.append(np.asarray(value, each.dtype))
        samples.append(sample)
    return samples


def checked(
    reference: Reference,
    rules: Sequence[Rule],
    attempt: Callable[[Left], tuple[Graph, keras.Model]],
    strict: bool = False,
) -> tuple[Graph, keras.Model, Left]:
    """Rewrite a model so that it computes the same.

    Args:
        reference: The model.
        rules: All rules that can be left out.
        attempt: Rewrites the model but for what is left out: the graph, and the model of it.
        strict: Whether a rewrite that differs is an error.

    Returns:
        The graph, its model, and what was left out.

    Raises:
        RuntimeError: The model itself fails.
        ValueError: `strict`, and something had to be left out.
    """
    try:
        reference.outputs  # noqa: B018 (computed now, and kept)
        if reference.written:
            log.warning(
                "%s changes %s whenever it is called: the file always begins with what they are "
                "now.",
                reference.model.name,
                first_of(reference.written),
            )
    except Exception as error:  # whatever the user's code raises
        shapes = [each.shape for each in reference.inputs.entries]
        problem = one_line(f"{type(error).__name__}: {error}")
        raise RuntimeError(
            f"{reference.model.name!r} cannot be run on one example of {shapes}: {problem}"
        ) from error
    search = _Search(reference, rules, attempt)
    found = search.tried(Left())
    if found is not None:
        return *found, Left()
    left, found = search.culprits()
    message = (
        f"{reference.model.name!r} as rewritten differs from the model by {search.worst:.2g} of "
        f"its largest output: {left}."
    )
    if strict:
        raise ValueError(f"{message} Without `strict` a file is written that is right.")
    log.warning("%s Please report it.", message)
    return *found, left


class _Search:
    def __init__(self, reference, rules, attempt):
        self._reference, self._rules, self._attempt = reference, tuple(rules), attempt
        self.worst = 0.0

    def tried(self, left: Left) -> tuple[Graph, keras.Model] | None:
        """A rewrite, if it computes what the model does."""
        try:
            found = self._attempt(left)
            gap = self._reference.gap(self._reference.run(found[1]))
        except Exception:
            if left.whole:
                raise
            log.debug("A rewrite failed", exc_info=True)
            gap = float("inf")
        if not gap:
            return found
        self.worst = self.worst or gap
        return None

    def culprits(self) -> tuple[Left, tuple[Graph, keras.Model]]:
        """The least that has to be left out, and the rewrite without it."""
        left = Left()
        for _ in range(_CULPRITS):
            if self.tried(Left(left.operations, self._rules)) is None:
                operation = self._wrong_operation(left)
                if operation is None:
                    break
                left = Left((*left.operations, operation))
            elif (without := self._wrong_rules(left)) is not None:
                left = Left(left.operations, without)
            else:
                left = Left(left.operations, self._rules)
            found = self.tried(left)
            if found is not None:
                return left, found
        whole = Left(whole=True)
        return whole, self._attempt(whole)

    def _wrong_rules(self, left: Left) -> tuple[Rule, ...] | None:
        """A rule without which it is right."""
        for rule in self._rules:
            if self.tried(Left(left.operations, (rule,))) is not None:
                return (rule,)
        return None

    def _wrong_operation(self, left: Left) -> Any:
        """The first operation that makes it wrong when it is read, no rule being applied."""
        each = [x for x in operations(self._reference.model) if not left.keeps(x)]
        low, high = 0, len(each)  # right with the first `low` read, wrong with the first `high`
        while high - low > 1:
            middle = (low + high) // 2
            kept = (*left.operations, *each[middle:])
            if self.tried(Left(kept, self._rules)) is None:
                high = middle
            else:
                low = middle
        return each[low] if each else None


def operations(model: keras.Model) -> list[Any]:
    """All operations of a model in order, those of the models in it included, each once."""
    found: dict[int, Any] = {}

    def walk(model):
        for call in compat.calls(model):
            nested = compat.functional(call.operation)
            if not call.is_input and compat.has_graph(nested):
                walk(nested)
            elif not call.is_input:
                found.setdefault(id(call.operation), call.operation)

    inner = compat.functional(model)
    if compat.has_graph(inner):
        walk(inner)
    return list(found.values())
