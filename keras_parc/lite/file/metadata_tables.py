"""The tables of TensorFlow Lite's metadata, and a codec between them and plain dictionaries.

The tables are `metadata_schema.fbs` 1.5.0 and those of image segmenters and object detectors of
https://github.com/google-ai-edge/mediapipe/tree/master/mediapipe/tasks/metadata. Packages that
carry generated code for them depend on OpenCV and matplotlib (mediapipe) or do not install beyond
Python 3.11 (tflite-support); with the flatbuffers library, the list below is enough.
"""

import struct

import flatbuffers
from flatbuffers import number_types

# The order of the fields is the file format: a field is found by its place. None: not used here.
# "[kind]" is a list. A union takes two places: the number of its member, from 1, and the member.
TABLES: dict[str, dict[str, str | None]] = {
    "ModelMetadata": {
        "name": "string",
        "description": "string",
        "version": "string",
        "subgraph_metadata": "[SubGraphMetadata]",
        "author": "string",
        "license": "string",
        "associated_files": "[AssociatedFile]",
        "min_parser_version": "string",
    },
    "SubGraphMetadata": {
        "name": "string",
        "description": "string",
        "input_tensor_metadata": "[TensorMetadata]",
        "output_tensor_metadata": "[TensorMetadata]",
        "associated_files": "[AssociatedFile]",
        "input_process_units": None,
        "output_process_units": None,
        "input_tensor_groups": None,
        "output_tensor_groups": "[TensorGroup]",
        "custom_metadata": "[CustomMetadata]",
    },
    "TensorMetadata": {
        "name": "string",
        "description": "string",
        "dimension_names": None,
        "content": "Content",
        "process_units": "[ProcessUnit]",
        "stats": None,
        "associated_files": "[AssociatedFile]",
    },
    "AssociatedFile": {"name": "string", "description": "string", "type": "uint8"},
    "TensorGroup": {"name": "string", "tensor_names": "[string]"},
    "CustomMetadata": {"name": "string", "data": "bytes"},
    "Content": {
        "content_properties": "union FeatureProperties ImageProperties BoundingBoxProperties",
        "range": "ValueRange",
    },
    "FeatureProperties": {},
    "ImageProperties": {"color_space": "uint8"},
    "BoundingBoxProperties": {"index": "[uint32]", "type": "uint8", "coordinate_type": "uint8"},
    "ValueRange": {"min": "int32", "max": "int32"},
    "ProcessUnit": {"options": "union NormalizationOptions"},
    "NormalizationOptions": {"mean": "[float32]", "std": "[float32]"},
    "ImageSegmenterOptions": {"activation": "uint8", "min_parser_version": "string"},
    "ObjectDetectorOptions": {
        "min_parser_version": "string",
        "ssd_anchors_options": "SsdAnchorsOptions",
        "tensors_decoding_options": "TensorsDecodingOptions",
    },
    "SsdAnchorsOptions": {"fixed_anchors_schema": "FixedAnchorsSchema"},
    "FixedAnchorsSchema": {"anchors": "[FixedAnchor]"},
    "FixedAnchor": {
        "x_center": "float32",
        "y_center": "float32",
        "width": "float32",
        "height": "float32",
    },
    "TensorsDecodingOptions": {
        "num_classes": "int32",
        "num_boxes": "int32",
        "num_coords": "int32",
        "keypoint_coord_offset": "int32",
        "num_keypoints": "int32",
        "num_values_per_keypoint": "int32",
        "x_scale": "float32",
        "y_scale": "float32",
        "w_scale": "float32",
        "h_scale": "float32",
        "apply_exponential_on_box_size": "uint8",
        "sigmoid_score": "uint8",
    },
}
NUMBERS = {
    "uint8": number_types.Uint8Flags,
    "uint16": number_types.Uint16Flags,
    "int32": number_types.Int32Flags,
    "uint32": number_types.Uint32Flags,
    "float32": number_types.Float32Flags,
}


def encode(table: str, values: dict, identifier: bytes) -> bytes:
    """Write a table as a flatbuffer of its own.

    Args:
        table: Its name in `TABLES`.
        values: Names of fields to numbers, strings, bytes, lists, dictionaries (tables) or pairs of
            a member's name and its fields (unions). What is missing is left out.
        identifier: The four bytes that mark the format.

    Returns:
        The flatbuffer; the same for the same values.

    Example:
        >>> data = encode("ValueRange", {"min": -2, "max": 7}, b"TEST")
        >>> decode("ValueRange", data)
        {'min': -2, 'max': 7}
    """
    builder = flatbuffers.Builder()
    builder.Finish(_write_table(builder, table, values), identifier)
    return bytes(builder.Output())


def _write_table(builder, table, values):
    slots = []  # What a table points to is written before the table itself.
    for name, kind in TABLES[table].items():
        value = values.get(name)
        if kind and kind.startswith("union "):
            member, value = value or (None, None)
            slots.append(("uint8", _members(kind).index(member) + 1 if member else None))
            kind = member
        if value is not None and kind not in NUMBERS:
            value = _write(builder, kind, value)
        slots.append((kind, value))
    builder.StartObject(len(slots))
    for slot, (kind, value) in enumerate(slots):
        if value is None:
            continue
        if kind in NUMBERS:
            builder.PrependSlot(NUMBERS[kind], slot, value, 0)
        else:
            builder.PrependUOffsetTRelativeSlot(slot, value, 0)
    return builder.EndObject()


def _write(builder, kind, value):
    if kind == "string":
        return builder.CreateString(value)
    if kind == "bytes":
        return builder.CreateByteVector(value)
    if kind in TABLES:
        return _write_table(builder, kind, value)
    kind = kind.strip("[]")
    if kind not in NUMBERS:
        value = [_write(builder, kind, item) for item in value]
    builder.StartVector(4, len(value), 4)
    for item in reversed(value):
        if kind in NUMBERS:
            builder.Prepend(NUMBERS[kind], item)
        else:
            builder.PrependUOffsetTRelative(item)
    return builder.EndVector()


def decode(table: str, data: bytes) -> dict:
    """Read what `encode`, or another writer of this format, wrote.

    Args:
        table: The name of the root table in `TABLES`.
        data: The flatbuffer.

    Returns:
        The fields that are there and known, as `encode` takes them.

    Raises:
        ValueError: The flatbuffer is damaged.
    """
    try:
        return _read_table(table, data, _follow(data, 0))
    except (struct.error, IndexError, UnicodeDecodeError) as error:
        raise ValueError(f"The table {table} is damaged: {error}.") from error


def _read_table(name, data, position):
    # A table starts with the distance back to its vtable, which lists where each field lies.
    vtable = position - _number("int32", data, position)
    vtable = _cut(data, vtable, _number("uint16", data, vtable))
    places = iter([place for (place,) in struct.iter_unpack("<H", vtable[4:])])
    values = {}
    for field, kind in TABLES[name].items():
        place, member = next(places, 0), None
        if kind and kind.startswith("union "):
            number = _number("uint8", data, position + place) if place else 0
            kind = member = dict(enumerate(_members(kind), 1)).get(number)
            place = next(places, 0)
        if kind and place:
            value = _read(kind, data, position + place)
            values[field] = (member, value) if member else value
    return values


def _read(kind, data, position):
    if kind in NUMBERS:
        return _number(kind, data, position)
    position = _follow(data, position)
    if kind in TABLES:
        return _read_table(kind, data, position)
    length = _number("uint32", data, position)
    if kind in ("string", "bytes"):
        content = _cut(data, position + 4, length)
        return content.decode() if kind == "string" else content
    kind = kind.strip("[]")
    return [_read(kind, data, position + 4 + 4 * i) for i in range(length)]


def _members(union):
    return union.split()[1:]


def _number(kind, data, position):
    return NUMBERS[kind].packer_type.unpack_from(data, position)[0]


def _follow(data, position):
    return position + _number("uint32", data, position)


def _cut(data, start, length):
    if not 0 <= start <= start + length <= len(data):
        raise IndexError(f"{length} bytes at {start} of {len(data)}")
    return data[start : start + length]
