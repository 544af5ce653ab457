"""The rewrite of a model for inference: same function, other operations."""

import logging
from collections.abc import Sequence
from typing import Any

import keras

from keras_parc.lite.rewrite import forms
from keras_parc.lite.rewrite import rules_activation as activation
from keras_parc.lite.rewrite import rules_channels as channels
from keras_parc.lite.rewrite import rules_convnets as convnets
from keras_parc.lite.rewrite import rules_kernels as kernels
from keras_parc.lite.rewrite import rules_linear as linear
from keras_parc.lite.rewrite import rules_npu as npu
from keras_parc.lite.rewrite import rules_parc as parc
from keras_parc.lite.rewrite import rules_segmentation as segmentation
from keras_parc.lite.rewrite.checked import Left, Reference, checked, random_samples
from keras_parc.lite.rewrite.emission import emit
from keras_parc.lite.rewrite.graph import Graph, Rule, apply_everywhere
from keras_parc.lite.rewrite.importing import import_model
from keras_parc.lite.rewrite.signature import model_inputs
from keras_parc.models.inputs import known_scale
from keras_parc.support.text import one_line

log = logging.getLogger(__name__)

FOLDING = (
    linear.drop_identity,
    linear.fold_backward,
    linear.push_forward,
    linear.push_scale_forward,
    convnets.push_past_wrap,
    convnets.fold_into_parts,
)
JOINING = (
    parc.merge_circulars,
    parc.join_slices,
    parc.join_circulars,
    parc.join_affines,
    parc.join_residuals,
)
# Applied one after the other, each until it changes nothing more; the last ones to the forms of
# circular convolutions.
STEPS = (
    (convnets.drop_reshape, linear.dense_as_convolution),
    (activation.expand_hard_sigmoid, activation.expand_hard_silu),
    (*FOLDING, *JOINING, channels.fold_permutation),
    (segmentation.crop_unseen_taps, segmentation.part_spread),
    (linear.scale_back_through_product, *FOLDING),
    (channels.split_groups,),
    (channels.fold_permutation,),
)
LAST_STEPS = (
    (*FOLDING, parc.join_affines),
    (convnets.activate_parts,),
    (kernels.split_long_kernel,),
)
# Of one target alone, after all others; and what a target needs no rule for.
ONLY_FOR = {"npu": (npu.normalize_by_convolutions, npu.part_transpose)}
NOT_FOR = {"npu": (activation.expand_hard_silu, kernels.split_long_kernel)}
RULES = tuple(
    dict.fromkeys(rule for rules in (*STEPS, *LAST_STEPS, *ONLY_FOR.values()) for rule in rules)
)


def deploy(
    model: keras.Model,
    input_size: tuple[int, int] | None = None,
    *,
    target: str = "litert",
    input_shape: Any = None,
    strict: bool = False,
) -> keras.Model:
    """Rewrite a model for inference at one input size: it computes the same, faster.

    Normalization and position embeddings fold into the convolutions, the two halves of a ParC
    block become one, circular convolutions get the form that the target runs fastest, grouped
    convolutions become depthwise ones, depthwise kernels of more than 25 taps become sums of
    shorter ones, hard activations become operations that delegates run in int8, and preprocessing
    goes into the first convolution. Layers that are not known, such as your own, stay as they are
    and are named in the log.

    Args:
        model: A built model, functional or subclassed; it is not changed. What was kept of it is
            shared with it.
        input_size: `(height, width)` in pixels; default: the model's own. Needed when that is
            unknown.
        target: "litert" for current LiteRT, "portable" for runtimes that do not run int8 matrix
            products well (tflite-runtime up to 2.14, ARMv7), "npu" for Arm's Ethos-U, which runs
            int8 alone.
        input_shape: Shapes of inputs that are no images, see `to_tflite`.
        strict: The result is compared with the model on random inputs. What would make it differ
            by more than 1e-4 of the largest output stays as it is, and is named in the log; with
            `strict` it is an error.

    Returns:
        A functional model in float32 with fixed sides and the outputs of `model`, equal up to
        rounding, at most 1e-5 of the largest output. Its call is what counts: it is not for saving.

    Raises:
        ValueError: The target is unknown, the shape of an input is unknown or not the model's, or
            with `strict` something must stay as it is.

    Example:
        >>> import keras_parc
        >>> model = keras_parc.ParCNetTiny(input_shape=(64, 64, 3))
        >>> len(keras_parc.deploy(model).layers) < len(model.layers)
        True
    """
    forms.check_target(target)
    inputs = model_inputs(model, input_size, input_shape)
    reference = Reference(model, inputs, random_samples(inputs, known_scale(model)))
    return rewritten(reference, target, strict)[1]


def rewritten(
    reference: Reference,
    target: str = "litert",
    strict: bool = False,
    without: Sequence[Rule] = (),
) -> tuple[Graph, keras.Model, Left]:
    """Rewrite a model and compare it with the model.

    Args:
        reference: The model, with samples of its inputs.
        target: See `deploy`.
        strict: See `deploy`.
        without: Rules that are not applied, of `RULES`.

    Returns:
        The graph, the model of it, and what was left out so that it computes the same.

    Raises:
        ValueError: `strict`, and something had to be left out.
    """

    def attempt(left: Left):
        if left.whole:
            return unchanged(reference)
        graph = import_model(reference.model, reference.inputs, left.keeps)
        rewrite(graph, target, (*left.rules, *without))
        return graph, emit(graph)

    graph, model, left = checked(reference, RULES, attempt, strict)
    if graph.kept:
        reasons = ", ".join(f"{kind} ({why})" for kind, why in graph.kept.items())
        log.warning("%s: these stay as they are: %s.", reference.model.name, reasons)
    return graph, model, left


def unchanged(reference: Reference) -> tuple[Graph, keras.Model]:
    """A model as one operation, in float32: its graph, and the model of it.

    Raises:
        RuntimeError: It is not written for tensors whose values are not known yet.
    """
    try:
        graph = import_model(reference.model, reference.inputs, lambda operation: True)
        return graph, emit(graph)
    except Exception as error:  # whatever the user's code raises
        problem = one_line(f"{type(error).__name__}: {error}")
        raise RuntimeError(
            f"{reference.model.name!r} cannot be read as a graph: {problem} Its layers must take "
            "and return tensors, computed with `keras.ops`."
        ) from error


def rewrite(graph: Graph, target: str = "litert", without: Sequence[Rule] = ()) -> None:
    """Apply all rules to a graph, in place.

    Args:
        graph: What `import_model` returns.
        target: See `deploy`.
        without: Rules that are not applied, of `RULES`.

    Example:
        >>> image = keras.Input((8, 8, 3))
        >>> x = keras.layers.BatchNormalization()(keras.layers.Conv2D(4, 1)(image))
        >>> model = keras.Model(image, x)
        >>> graph = import_model(model, model_inputs(model))
        >>> rewrite(graph)
        >>> [node.op for node in graph.nodes()]
        [input, conv]
    """
    without = (*without, *NOT_FOR.get(target, ()))
    for rules in STEPS:
        apply_everywhere(graph, *(rule for rule in rules if rule not in without))
    forms.lower_circulars(graph, target)
    for rules in (*LAST_STEPS, ONLY_FOR.get(target, ())):
        apply_everywhere(graph, *(rule for rule in rules if rule not in without))
