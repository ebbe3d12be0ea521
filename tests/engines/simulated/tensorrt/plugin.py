"""The plugin layer as far as this project goes: what is registered, and symbols that are plain numbers."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

PLUGINS: dict[str, SimpleNamespace] = {}


def register(plugin_id: str, lazy_register: bool = False) -> Callable[[Any], Any]:
    def take(function: Any) -> Any:
        if plugin_id in PLUGINS:
            raise ValueError(f"already has a definition for {plugin_id}")
        PLUGINS[plugin_id] = SimpleNamespace(register=function)
        return function

    return take


def autotune(plugin_id: str) -> Callable[[Any], Any]:
    return lambda function: setattr(PLUGINS[plugin_id], "autotune", function) or function


def aot_impl(plugin_id: str) -> Callable[[Any], Any]:
    return lambda function: setattr(PLUGINS[plugin_id], "aot_impl", function) or function


class TensorDesc:
    def __init__(self, shape: tuple[int, ...], dtype: Any, format: Any = None) -> None:
        self.shape = self.shape_expr = shape
        self.dtype, self.format = dtype, format


class SymInt32(int):
    pass


ShapeExpr = SymInt32


class ShapeExprs(tuple[int, ...]):
    pass


class Shape(tuple[int, ...]):
    pass


class SymIntExprs(list[int]):
    @classmethod
    def from_tuple(cls, shape_exprs: tuple[int, ...]) -> SymIntExprs:
        return cls(shape_exprs)


class KernelLaunchParams(SimpleNamespace):
    pass


class AutoTuneCombination:
    def __init__(self, io_types: str, layouts: str, tactics: list[int]) -> None:
        self.io_types, self.layouts, self.tactics = io_types, layouts, tactics


def cdiv(first: int, second: int) -> int:
    return -(-first // second)


def from_shape_expr(shape_expr: tuple[int, ...], dtype: Any) -> TensorDesc:
    return TensorDesc(shape_expr, dtype)
