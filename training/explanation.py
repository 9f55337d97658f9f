"""Every option of a recipe in words: what `facemargin train --explain` prints."""

from __future__ import annotations

import inspect
import textwrap
import types
import typing
from collections.abc import Iterator
from enum import Enum
from pathlib import Path

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from training.config import TrainConfig
from training.losses.registry import OBJECTIVES, objective_arguments

_WIDTH = 120


def explain() -> str:
    """The options of TrainConfig, nested as in a recipe, then the objectives with their arguments."""
    lines = [*_comment(0, TrainConfig), *_model(TrainConfig, 0), "", "# task.objective.name, and its arguments"]
    for name in OBJECTIVES:
        arguments = ", ".join(f"{key}: {_value(value)}" for key, value in objective_arguments(name).items())
        lines += _wrapped(0, f"{name}:", f"{{{arguments}}}", _summary(OBJECTIVES[name]))
    return "\n".join(lines)


def _model(model: type[BaseModel], depth: int) -> Iterator[str]:
    for name, field in model.model_fields.items():
        nested = list(_models(field.annotation))
        kind = "" if nested and _plain(field.annotation) == "" else _plain(field.annotation)
        yield from _wrapped(depth, f"{name}:", " ".join(filter(None, [_default(field, nested), kind])), _about(field))
        for one in nested:
            yield from _comment(depth + 1, one)
            yield from _model(one, depth + 1)


def _wrapped(depth: int, name: str, value: str, about: str) -> Iterator[str]:
    indent = "  " * depth
    *whole, line = textwrap.wrap(f"{name} {value}", _WIDTH, initial_indent=indent, subsequent_indent=f"{indent}    ")
    yield from whole
    for word in f"# {about}".split(" ") if about else ():
        if len(line) + 1 + len(word) > _WIDTH:
            yield line
            line = f"{indent}    # {word}"
        else:
            line += f" {word}"
    yield line


def _comment(depth: int, model: type[BaseModel]) -> list[str]:
    """What the model says of itself: all of it where its fields say nothing."""
    silent = any(field.description is None for field in model.model_fields.values())
    text = " ".join((inspect.getdoc(model) or "").split()) if silent else _summary(model)
    lead = "  " * depth + "# "
    return textwrap.wrap(text, _WIDTH, initial_indent=lead, subsequent_indent=lead)


def _summary(thing: type) -> str:
    document = inspect.getdoc(thing) or ""
    return " ".join(document.partition("\n\n")[0].split())


def _about(field: FieldInfo) -> str:
    bounds = [str(bound) for bound in field.metadata if type(bound).__name__ in ("Ge", "Gt", "Le", "Lt", "MultipleOf")]
    limits = ", ".join(_BOUNDS[bound.partition("(")[0]] + bound.partition("=")[2].rstrip(")") for bound in bounds)
    return " ".join(filter(None, [field.description or "", f"[{limits}]" if limits else ""]))


_BOUNDS = {"Ge": ">= ", "Gt": "> ", "Le": "<= ", "Lt": "< ", "MultipleOf": "a multiple of "}


def _default(field: FieldInfo, nested: list[type[BaseModel]]) -> str:
    if field.default is PydanticUndefined:
        return "(required)"
    return "" if nested and field.default is not None else _value(field.default)


def _value(value: object) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return str(value).lower()
        case Path() | Enum():
            return str(value)
        case "":
            return '""'
    return str(value)


def _models(annotation: object) -> Iterator[type[BaseModel]]:
    if inspect.isclass(annotation) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in typing.get_args(annotation):
        yield from _models(argument)


def _plain(annotation: object) -> str:
    """The type in a reader's words; "" for nested options."""
    if inspect.isclass(annotation) and not typing.get_args(annotation):
        return "" if issubclass(annotation, BaseModel) else f"({_NAMES.get(annotation, annotation.__name__)})"
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Literal:
        return f"({' | '.join(str(argument) for argument in arguments)})"
    if origin is typing.Annotated:
        return _plain(arguments[0])
    if origin in (typing.Union, types.UnionType):
        parts = [_plain(argument).strip("()") for argument in arguments if argument is not type(None)]
        return f"({' | '.join(filter(None, parts))})" if any(parts) else ""
    if origin is list:
        return f"(list{' of ' + inner if (inner := _plain(arguments[0]).strip('()')) else ''})"
    return "(mapping)" if origin is dict else ""


_NAMES = {str: "text", int: "whole number", float: "number", bool: "true | false", Path: "path"}
