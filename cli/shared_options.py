"""Options that several verbs share, each with its one help text, and what they change of a config."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

RunOption = Annotated[Path, typer.Option("--run", help="The run's folder.", show_default=False)]
DataName = Annotated[
    str | None, typer.Option("--data", help="synthetic, fashion_mnist, ccp, polyvore, or folder (your own).")
]
DataRoot = Annotated[str | None, typer.Option("--root", help="Where the data set lies; not for synthetic.")]
DataSeed = Annotated[int, typer.Option("--seed", help="Which outfits synthetic and fashion_mnist compose.")]
Size = Annotated[int, typer.Option(min=32, max=1024, help="Side of the images in pixels.")]
ConfigFile = Annotated[Path | None, typer.Option("--config", help="A TOML file instead of a preset.")]
Fields = Annotated[
    list[str] | None,
    typer.Option("--set", help="FIELD=VALUE of the config, as training.rate=0.0005; may be repeated."),
]
RuntimeName = Annotated[
    str, typer.Option("--runtime", help="What runs the engines: openvino, onnxruntime, tensorrt, ...")
]
Precision = Annotated[str, typer.Option(help="fp32; int8; bf16 where the CPU computes it; fp16 on a GPU.")]
Threads = Annotated[int, typer.Option(min=0, help="Threads an engine; 0 takes every core.")]


def config_changes(name: str | None, root: str | None, fields: Sequence[str] | None) -> dict[str, Any]:
    """Return what the options of a data set and `--set` change of a config; None leaves a field as it is."""
    from outfitgan.config import parse_fields

    return {"data.name": name, "data.root": absolute(root)} | parse_fields(fields or [])


def absolute(root: str | None) -> str | None:
    """Return a path that a resume started elsewhere will find."""
    return str(Path(root).resolve()) if root else root
