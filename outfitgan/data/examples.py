"""Outfits written out as image files, for a person or a request."""

from __future__ import annotations

from pathlib import Path

from outfitgan.config import DataConfig
from outfitgan.data.open_outfits import open_outfits
from outfitgan.errors import DataError
from outfitgan.files import partial_folder
from outfitgan.images import encode_png
from outfitgan.items import COLLOCATION_ORDER
from outfitgan.pictures import contact_sheet


def write_examples(data: DataConfig, size: int, split: str, seed: int, count: int, output: Path) -> Path:
    """Write `count` outfits as <number>/<kind>.png and <kind>_mask.png; return the contact sheet's path.

    Raises:
        DataError: if the output exists or the data set holds fewer outfits.

    """
    outfits = open_outfits(data, size, split, seed)
    if count > len(outfits):
        raise DataError(f"The {split} split of {data.name} holds {len(outfits)} outfits, not {count}; ask for fewer.")
    if output.exists():
        raise DataError(f"{output} exists already; choose another --output.")
    rows = []
    with partial_folder(output) as partial:
        for index in range(count):
            outfit, folder = outfits[index], partial / f"{index:03d}"
            folder.mkdir()
            for kind in COLLOCATION_ORDER:
                item = outfit.items[kind]
                (folder / f"{kind}.png").write_bytes(encode_png(item.image))
                (folder / f"{kind}_mask.png").write_bytes(encode_png(item.mask[..., None]))
            rows.append([outfit.items[kind].image for kind in COLLOCATION_ORDER])
        contact_sheet(rows).save(partial / "outfits.png")
    return output / "outfits.png"
