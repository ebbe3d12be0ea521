"""What this project uses of `tensorrt.plugin`: plugins whose kernel is compiled ahead of time."""

from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from tensorrt import DataType

_F = TypeVar("_F", bound=Callable[..., Any])

class SymInt32:
    def __init__(self, value: int | SymInt32 | None = None) -> None: ...

class ShapeExpr(SymInt32):
    def __mul__(self, other: int | ShapeExpr) -> ShapeExpr: ...

class ShapeExprs:
    def __getitem__(self, index: int) -> ShapeExpr: ...

class SymIntExprs:
    @classmethod
    def from_tuple(cls, shape_exprs: tuple[SymInt32, ...]) -> SymIntExprs: ...

class Shape:
    def __getitem__(self, index: int) -> int: ...
    def __iter__(self) -> Iterator[int]: ...

class TensorDesc:
    @property
    def dtype(self) -> DataType: ...
    @property
    def format(self) -> Any: ...
    @property
    def shape(self) -> Shape: ...
    @property
    def shape_expr(self) -> ShapeExprs: ...

class KernelLaunchParams:
    def __init__(
        self,
        grid_x: int | SymInt32 = 1,
        grid_y: int | SymInt32 = 1,
        grid_z: int | SymInt32 = 1,
        block_x: int | SymInt32 = 1,
        block_y: int | SymInt32 = 1,
        block_z: int | SymInt32 = 1,
        shared_mem: int | SymInt32 = 0,
    ) -> None: ...

class AutoTuneCombination:
    def __init__(
        self, io_types: str | None = None, layouts: str | None = None, tactics: list[int] | None = None
    ) -> None: ...

def aot_impl(plugin_id: str) -> Callable[[_F], _F]: ...
def autotune(plugin_id: str) -> Callable[[_F], _F]: ...
def cdiv(first: int | ShapeExpr, second: int | ShapeExpr) -> ShapeExpr: ...
def from_shape_expr(shape_expr: tuple[int | ShapeExpr, ...], dtype: DataType) -> TensorDesc: ...
def register(plugin_id: str, lazy_register: bool = False) -> Callable[[_F], _F]: ...
