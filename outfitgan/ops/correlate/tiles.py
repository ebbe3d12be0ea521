"""How the correlation kernel is cut: the sizes of its tiles, for a dtype and two widths."""

from __future__ import annotations

from dataclasses import dataclass, replace

MAX_CHANNELS = 256
"""Of the features and of the values: what the accumulators of one program hold without spilling."""

_SMALLEST = 16  # the least that a tensor core multiplies


@dataclass(frozen=True)
class Tiles:
    """One configuration of the kernel; every size of a tile is a power of two, at least 16."""

    queries: int  # target positions a program
    keys: int  # source positions a step
    channels: int  # matching channels a product
    values: int  # value channels a program
    warps: int
    stages: int  # steps whose loads are under way at a time

    def constants(self) -> dict[str, int]:
        """Return the sizes under the kernel's names for them."""
        return {
            "BLOCK_QUERIES": self.queries,
            "BLOCK_KEYS": self.keys,
            "BLOCK_CHANNELS": self.channels,
            "BLOCK_VALUES": self.values,
        }


def block(width: int) -> int:
    """Return the power of two, at least 16, that holds `width` channels: tiles have no other sizes."""
    return max(_SMALLEST, 1 << (width - 1).bit_length())


def default_tiles(itemsize: int, channels: int, values: int) -> Tiles:
    """Return tiles that at the presets' widths spill no register and take less than 48 KiB of shared memory.

    On sm_90a the paper preset's take 56 KiB, which a launch has to ask for.

    Args:
        itemsize: bytes of a number, 2 or 4.
        channels: C, of the features.
        values: Cv, of what is carried over.

    """
    if itemsize == 4:  # its products are three of TF32, whose operands take registers
        return Tiles(32, 32, min(block(channels), 32), min(block(values), 64), 4, 2)
    return Tiles(64, 32, min(block(channels), 64), block(values), 8 if values > 128 else 4, 2)


def candidate_tiles(itemsize: int, channels: int, values: int) -> tuple[Tiles, ...]:
    """Return the tiles that are timed on a GPU to choose from, the default first."""
    first = default_tiles(itemsize, channels, values)
    taller = replace(first, queries=2 * first.queries, warps=8)
    candidates = [
        first,
        replace(first, keys=2 * first.keys),
        replace(first, stages=3),
        replace(first, queries=first.queries // 2),
        taller,
        replace(taller, keys=2 * first.keys),
        replace(taller, keys=2 * first.keys, stages=3),
        replace(first, channels=min(block(channels), 2 * first.channels)),
        replace(first, values=min(first.values, 128), keys=2 * first.keys),
    ]
    return tuple(dict.fromkeys(candidates))
