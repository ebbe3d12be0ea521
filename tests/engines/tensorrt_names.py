"""What a TensorRT offers of the names in `typings/tensorrt`, read from its own classes and their docstrings.

    python tests/engines/tensorrt_names.py tests/engines/tensorrt-10.16.json

writes the file for the bindings that `import tensorrt` finds, which `official_tensorrt.py` says how to make.
"""

from __future__ import annotations

import ast
import inspect
import json
import re
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

TYPINGS = Path(__file__).parents[2] / "typings" / "tensorrt"

Signature = list[tuple[str, str]]
"""Parameters without self, with = where there is a default, and their types; the last entry is ("return", type)."""


def declared() -> dict[str, Signature | None]:
    """Return every name of the typings with its signature, None for what is not called."""
    names: dict[str, Signature | None] = {}
    for file, prefix in (("__init__.pyi", ""), ("plugin.pyi", "plugin.")):
        names |= _declared(ast.parse((TYPINGS / file).read_text(encoding="utf-8")).body, prefix)
    return names


def _declared(body: list[ast.stmt], prefix: str) -> dict[str, Signature | None]:
    names: dict[str, Signature | None] = {}
    for node in body:
        if isinstance(node, ast.ClassDef):
            names[prefix + node.name] = None
            names |= _declared(node.body, f"{prefix}{node.name}.")
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            names[prefix + node.target.id] = None
        elif isinstance(node, ast.FunctionDef):
            decorators = {ast.unparse(decorator) for decorator in node.decorator_list}
            names[prefix + node.name] = None if "property" in decorators else _signature(node)
    return names


def _signature(node: ast.FunctionDef) -> Signature:
    parameters = [(a.arg, _plain(ast.unparse(a.annotation or ast.Constant("")))) for a in node.args.args]
    parameters = [(name, kind) for name, kind in parameters if name not in ("self", "cls")]
    return [*parameters, ("return", _plain(ast.unparse(node.returns or ast.Constant(""))))]


def offered() -> dict[str, list[Signature] | None]:
    """Return those names that the imported TensorRT has, each with its overloads, None for what is not called."""
    import numpy.typing  # noqa: F401 - TensorRT 11.4 reads it without importing it
    import tensorrt

    with suppress(ModuleNotFoundError):  # it is younger than 10.3
        import tensorrt.plugin

    found: dict[str, list[Signature] | None] = {}
    for name in declared():
        try:
            value = inspect.getattr_static(_owner(tensorrt, name), name.rpartition(".")[2])
        except AttributeError:
            continue
        found[name] = list(_overloads(value, name.rpartition(".")[2])) if inspect.isroutine(value) else None
    return found


def fits(wanted: Signature | None, overloads: list[Signature] | None) -> bool:
    """Say whether a name of the typings may be used so: one overload takes its parameters, others have defaults."""
    if wanted is None or overloads is None:
        return wanted is overloads
    return any(_fits(wanted, overload) for overload in overloads)


def _fits(wanted: Signature, overload: Signature) -> bool:
    *parameters, returned = wanted
    *taken, given = overload
    named = [name.rstrip("=") for name, _ in taken[: len(parameters)]] == [name for name, _ in parameters]
    rest = all(name.endswith("=") for name, _ in taken[len(parameters) :])
    kinds = [*zip(parameters, taken, strict=False), (returned, given)]
    return named and rest and all(_same(kind, other) for (_, kind), (_, other) in kinds)


def _same(kind: str, other: str) -> bool:
    """Say whether a type is what TensorRT says; Python's own functions say nothing, and a tuple will do for Dims."""
    return not other or kind in ("Any", other) or (kind.startswith("tuple[") and other in ("Dims", "tuple"))


def _owner(module: Any, name: str) -> Any:
    owner = module
    for part in name.split(".")[:-1]:
        owner = getattr(owner, part)
    return owner


def _overloads(value: Any, name: str) -> Iterator[Signature]:
    """Give the signatures that pybind11 writes into docstrings, or Python's own, which has no types here."""
    value = getattr(value, "__func__", value)
    for line in (value.__doc__ or "").splitlines():
        if match := re.fullmatch(rf"(?:\d+\. )?{name}\((.*)\) -> (.+)", line.strip()):
            parameters = [part.partition(": ") for part in _split(match[1])]
            if not any(part[0].startswith("*") for part in parameters):
                named = [part for part in parameters if part[0] not in ("self", "/")]
                kinds = [(part[0] + "=" * (" = " in part[2]), _plain(part[2].partition(" = ")[0])) for part in named]
                yield [*kinds, ("return", _plain(match[2]))]
                continue
    if inspect.isfunction(value):
        given = [p for p in inspect.signature(value).parameters.values() if p.name not in ("self", "cls")]
        yield [*((p.name + "=" * (p.default is not p.empty), "") for p in given), ("return", "")]


def _split(parameters: str) -> list[str]:
    """Split at commas outside brackets."""
    parts, depth = [""], 0
    for character in parameters:
        depth += {"[": 1, "<": 1, "]": -1, ">": -1}.get(character, 0)
        if character == "," and not depth:
            parts.append("")
        else:
            parts[-1] += character
    return [part.strip() for part in parts if part.strip()]


def _plain(kind: str) -> str:
    """Return a type as both sides write it."""
    kind = re.sub(r"tensorrt\.tensorrt\.|typing_extensions\.|typing\.|collections\.abc\.|nvonnxparser::", "", kind)
    kind = re.sub(r" \| None$", "", kind).replace("SupportsInt", "int").replace("SupportsFloat", "float")
    return {"buffer": "Buffer", "IParserError": "ParserError"}.get(kind, kind).replace("List[", "list[")


if __name__ == "__main__":
    import tensorrt

    content = {"version": tensorrt.__version__, "offered": offered()}
    Path(sys.argv[1]).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
