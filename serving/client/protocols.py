"""The two protocols of a Triton server behind one interface."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from tritonclient import grpc, http
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

from outfitgan.contracts import Arrays
from outfitgan.errors import InputError

_ADDRESS = re.compile(r"(?P<host>[\w.-]+|\[[0-9A-Fa-f:.]+\]):(?P<port>[0-9]{1,5})")


class Transport(Protocol):
    """What the client needs of a protocol."""

    def is_ready(self) -> bool:
        """Return whether the server is ready."""
        ...

    def metadata(self, model: str) -> dict[str, Any]:
        """Return a model's inputs and outputs."""
        ...

    def statistics(self) -> list[dict[str, Any]]:
        """Return every model's statistics."""
        ...

    def infer(self, model: str, inputs: Arrays, outputs: Sequence[str]) -> Arrays:
        """Return the requested outputs."""
        ...

    def read_error(self, error: Exception) -> tuple[str | None, str]:
        """Return the server's status, None if it did not answer, and its message."""
        ...

    def close(self) -> None:
        """Close the connection."""
        ...


class Grpc:
    """A connection over gRPC."""

    def __init__(
        self,
        url: str,  # host:port
        timeout: float,  # seconds for one request
    ) -> None:
        host = _checked_host(url)
        # The arguments replace the client's own: its unlimited message size has to be said again.
        arguments: list[tuple[str, int]] = [
            ("grpc.max_send_message_length", grpc.MAX_GRPC_MESSAGE_SIZE),
            ("grpc.max_receive_message_length", grpc.MAX_GRPC_MESSAGE_SIZE),
        ]
        if _is_loopback(host):
            arguments.append(("grpc.enable_http_proxy", 0))  # a proxy would look for the server on itself
        self._client = grpc.InferenceServerClient(url, channel_args=arguments)
        self._timeout = timeout

    def is_ready(self) -> bool:
        """Return whether the server is ready."""
        return bool(self._client.is_server_ready(client_timeout=self._timeout))

    def metadata(self, model: str) -> dict[str, Any]:
        """Return a model's inputs and outputs."""
        return dict(self._client.get_model_metadata(model, as_json=True, client_timeout=self._timeout))

    def statistics(self) -> list[dict[str, Any]]:
        """Return every model's statistics."""
        answer = self._client.get_inference_statistics(as_json=True, client_timeout=self._timeout)
        return list(answer["model_stats"])

    def infer(self, model: str, inputs: Arrays, outputs: Sequence[str]) -> Arrays:
        """Return the requested outputs."""
        requested = [grpc.InferRequestedOutput(name) for name in outputs]
        answer = self._client.infer(model, _inputs(grpc, inputs), outputs=requested, client_timeout=self._timeout)
        return {name: answer.as_numpy(name) for name in outputs}

    def read_error(self, error: Exception) -> tuple[str | None, str]:
        """Return the server's status, None if it did not answer, and its message."""
        if not isinstance(error, InferenceServerException):
            raise error
        status = error.status()
        silent = status in ("StatusCode.UNAVAILABLE", "StatusCode.DEADLINE_EXCEEDED")
        return (None if silent else status), str(error.message())

    def close(self) -> None:
        """Close the connection."""
        self._client.close()


class Http:
    """A connection over HTTP."""

    def __init__(
        self,
        url: str,  # host:port
        timeout: float,  # seconds for one request
    ) -> None:
        _checked_host(url)
        self._client = http.InferenceServerClient(url, connection_timeout=timeout, network_timeout=timeout)

    def is_ready(self) -> bool:
        """Return whether the server is ready."""
        return bool(self._client.is_server_ready())

    def metadata(self, model: str) -> dict[str, Any]:
        """Return a model's inputs and outputs."""
        return dict(self._client.get_model_metadata(model))

    def statistics(self) -> list[dict[str, Any]]:
        """Return every model's statistics."""
        return list(self._client.get_inference_statistics()["model_stats"])

    def infer(self, model: str, inputs: Arrays, outputs: Sequence[str]) -> Arrays:
        """Return the requested outputs."""
        requested = [http.InferRequestedOutput(name) for name in outputs]
        answer = self._client.infer(model, _inputs(http, inputs), outputs=requested)
        return {name: answer.as_numpy(name) for name in outputs}

    def read_error(self, error: Exception) -> tuple[str | None, str]:
        """Return the server's status, None if it did not answer, and its message."""
        if isinstance(error, InferenceServerException):
            return error.status(), str(error.message())
        if isinstance(error, OSError):
            return None, str(error) or type(error).__name__
        raise error

    def close(self) -> None:
        """Close the connection."""
        self._client.close()


PROTOCOLS: dict[str, Callable[[str, float], Transport]] = {"grpc": Grpc, "http": Http}


def _checked_host(url: str) -> str:
    """Return the host of HOST:PORT; raise InputError if `url` is anything else."""
    found = _ADDRESS.fullmatch(url)
    if found is None or not 1 <= int(found["port"]) <= 65535:
        raise InputError(f"--server takes HOST:PORT, as in 127.0.0.1:8001, not '{url}'.")
    return found["host"].strip("[]")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _inputs(module: Any, inputs: Arrays) -> list[Any]:
    """Return the protocol's inputs; raise InputError for an array Triton has no type for."""
    tensors = []
    for name, array in inputs.items():
        dtype = np_to_triton_dtype(array.dtype)
        if dtype is None:
            raise InputError(f"{name} is {array.dtype}, which a server has no type for: convert it to uint8.")
        tensor = module.InferInput(name, list(array.shape), dtype)
        tensor.set_data_from_numpy(array)
        tensors.append(tensor)
    return tensors
