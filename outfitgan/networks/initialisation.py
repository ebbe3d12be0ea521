"""First weights, each way a small function for `nn.Module.apply`; `initialiser_of` turns a config's word into one."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from outfitgan.config import Initialisation

_Weighted = nn.Conv2d | nn.Linear


def he(module: nn.Module) -> None:
    """Draw weights as He et al. (2015) do for leaky ReLU; biases start at zero."""
    if isinstance(module, _Weighted):
        nn.init.kaiming_normal_(module.weight, a=0.2)
        _zero_bias(module)


def normal(module: nn.Module) -> None:
    """Draw weights from N(0, 0.02) as pix2pix does; biases start at zero."""
    if isinstance(module, _Weighted):
        nn.init.normal_(module.weight, std=0.02)
        _zero_bias(module)


def xavier(module: nn.Module) -> None:
    """Draw weights as Glorot and Bengio (2010) do; biases start at zero."""
    if isinstance(module, _Weighted):
        nn.init.xavier_normal_(module.weight)
        _zero_bias(module)


def _zero_bias(module: _Weighted) -> None:
    if module.bias is not None:
        nn.init.zeros_(module.bias)


_INITIALISERS: dict[Initialisation, Callable[[nn.Module], None]] = {"he": he, "normal": normal, "xavier": xavier}


def initialiser_of(name: Initialisation) -> Callable[[nn.Module], None]:
    """Return the initialisation that a config names."""
    return _INITIALISERS[name]
