"""Errors a person can act on: each message is one sentence that names the value and the fix."""


class OutfitError(Exception):
    """Base of every expected error; the command line prints it and exits with 2."""


class InputError(OutfitError):
    """An image, a mask or a request that cannot be used."""


class ConfigError(OutfitError):
    """A preset, config file or option that cannot be used."""


class DataError(OutfitError):
    """A data set that is absent or not laid out as published."""


class RunError(OutfitError):
    """A training run that is missing, unfinished or altered."""


class GraphError(OutfitError):
    """An ONNX graph that is missing, altered or out of tolerance."""


class EngineError(OutfitError):
    """An engine that is missing, altered, built elsewhere or cannot be built here."""


class UnsupportedError(EngineError):
    """A runtime or precision that this machine cannot run, though another could."""


class ServerError(OutfitError):
    """The Triton Inference Server cannot start or does not answer."""


def sentence(error: Exception) -> str | None:
    """Return what a program prints of an expected error, or None if the error is a fault of the program."""
    if isinstance(error, OutfitError):
        return str(error)
    if isinstance(error, ModuleNotFoundError):
        return f"This needs the package {error.name}, which is not installed; see the extras in the README."
    if isinstance(error, OSError) and error.filename is not None:
        return f"Cannot use {error.filename} ({error.strerror}); check the path and its permissions."
    return None
