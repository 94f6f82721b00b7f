"""The JSON Schema of a result, generated from the `TypedDict` of the result, so that the two always agree.

The following types are supported: `TypedDict`, `Literal`, `None`, `bool`, `int`, `float`, `str`, `Any`, unions of
these, `Sequence[X]`, `Mapping[str, X]`, and `Annotated[X, Keywords(minimum=0, description="...")]`. The schema of a
package's results lies next to its types; `scripts/schemas.py` updates it.
"""

import types
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints, is_typeddict

__all__ = ["Keywords", "make_schema"]

_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_SIMPLE = {bool: "boolean", int: "integer", float: "number", str: "string", type(None): "null"}


class Keywords:
    """Additional JSON Schema keywords for a type, such as `minimum` or `description`."""

    def __init__(self, **keywords: Any) -> None:
        self.keywords = keywords


def make_schema(content: Any, *, title: str, description: str) -> dict[str, Any]:
    """The JSON Schema of an object.

    Every key is required unless its `TypedDict` has `total=False`, and no other key is allowed.

    Args:
        content: A `TypedDict`, or a union of several. Those that it refers to are listed under `$defs` by name.
        title, description: Title and description of the schema.
    Raises: TypeError for a type that is not supported.
    """
    definitions: dict[str, Any] = {}
    top = _of_object(content, definitions) if is_typeddict(content) else _of(content, definitions)
    head = {"$schema": _DIALECT, "title": title, "description": description}
    return {**head, **top, "$defs": dict(sorted(definitions.items()))}


def _of_object(content: type, definitions: dict[str, Any]) -> dict[str, Any]:
    hints = get_type_hints(content, include_extras=True)
    return {
        "type": "object",
        "properties": {key: _of(hint, definitions) for key, hint in hints.items()},
        "required": [key for key in hints if key in content.__required_keys__],  # type: ignore[attr-defined]
        "additionalProperties": False,
    }


def _of(hint: Any, definitions: dict[str, Any]) -> dict[str, Any]:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        schema = _of(arguments[0], definitions)
        for more in arguments[1:]:
            schema = {**schema, **more.keywords}
        return schema
    if hint is Any:
        return {}
    if hint in _SIMPLE:
        return {"type": _SIMPLE[hint]}
    if origin is Literal:
        return {"enum": list(arguments)} if len(arguments) > 1 else {"const": arguments[0]}
    if origin in (Union, types.UnionType):
        return _of_union([_of(argument, definitions) for argument in arguments])
    if is_typeddict(hint):
        if hint.__name__ not in definitions:
            definitions[hint.__name__] = {}  # it may refer to itself
            definitions[hint.__name__] = _of_object(hint, definitions)
        return {"$ref": f"#/$defs/{hint.__name__}"}
    if origin is Sequence:
        return {"type": "array", "items": _of(arguments[0], definitions)}
    if origin is Mapping:
        return {"type": "object", "additionalProperties": _of(arguments[1], definitions)}
    raise TypeError(f"no JSON Schema is known for {hint!r}")


def _of_union(parts: list[dict[str, Any]]) -> dict[str, Any]:
    """Merge `null` into the type of the other part, whose keywords do not apply to null; otherwise use `anyOf`."""
    others = [part for part in parts if part != {"type": "null"}]
    if len(others) == 1 and isinstance(others[0].get("type"), str) and len(parts) == 2:
        return {**others[0], "type": [others[0]["type"], "null"]}
    return {"anyOf": parts}
