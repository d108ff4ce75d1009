"""The Triton kernels of a function that is lowered for a GPU, on any machine."""

from typing import Any

import jax
from jax.sharding import AbstractDevice, AbstractMesh, use_abstract_mesh

_TARGET = "__gpu$xla.gpu.triton"


def lowered_for_gpu(function: Any, *args: Any, platform: str = "cuda") -> Any:
    """Lower `function` for a GPU of JAX's platform "cuda" or "rocm"; no GPU is needed."""
    gpu = AbstractDevice(device_kind="NVIDIA H100", num_cores=132, platform="gpu")
    with use_abstract_mesh(AbstractMesh((), (), abstract_device=gpu)):  # JAX 0.11 asks for it
        return jax.jit(function).trace(*args).lower(lowering_platforms=(platform,))


def verified_kernels(lowered: Any) -> int:
    """Verify the Triton IR of every kernel of a lowered function.

    JAX writes the IR without verifying it; Triton would refuse wrong IR during compilation.

    Returns:
        The number of kernels.

    Raises:
        MLIRError: the IR of a kernel is wrong.
    """
    # JAX has no public way to read Triton IR.
    from jax._src.lib.mlir import ir
    from jax._src.pallas.triton import lowering

    kernels = []

    def collect(op: Any) -> Any:
        if op.name == "stablehlo.custom_call":
            attributes = op.attributes
            if ir.StringAttr(attributes["call_target_name"]).value == _TARGET:
                config = ir.DictAttr(attributes["mhlo.backend_config"])
                kernels.append(ir.StringAttr(config["ir"]).value_bytes)
        return ir.WalkResult.ADVANCE

    lowered.compiler_ir().operation.walk(collect)
    for kernel in kernels:
        with lowering._new_ir_context():
            ir.Module.parse(kernel).operation.verify()
    return len(kernels)
