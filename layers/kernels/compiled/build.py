"""From the sources to machine code for this computer's processor. Imports Numba."""

from __future__ import annotations

from llvmlite import binding
from numba import cfunc, types

from .source import KERNELS
from .source.declare import TYPES


def target_machine() -> binding.TargetMachine:
    """LLVM's code generator for this processor."""
    binding.initialize_native_target()
    binding.initialize_native_asmprinter()
    target = binding.Target.from_default_triple()
    return target.create_target_machine(
        cpu=binding.get_host_cpu_name(),
        features=binding.get_host_cpu_features().flatten(),
        opt=3,
        reloc="pic",
        codemodel="jitdefault",
        jit=True,
    )


def build() -> tuple[dict[str, tuple[str, str]], bytes]:
    """Compile all kernels.

    Returns
    -------
    kernels : dict of name to (symbol, argument letters)
    code : bytes
        One object file (ELF or what else the system has).
    """
    kernels, module = {}, None
    for name, (arguments, function) in KERNELS.items():
        signature = types.void(*(TYPES[letter] for letter in arguments))
        compiled = cfunc(signature, error_model="numpy")(function)
        part = binding.parse_assembly(compiled.inspect_llvm())
        _check(name, part)
        if module is None:
            module = part
        else:
            module.link_in(part)
        kernels[name] = (compiled.native_name, arguments)
    return kernels, target_machine().emit_object(module)


def _check(name: str, module: binding.ModuleRef) -> None:
    """Raise if a kernel calls what will not be there when it runs without Numba."""
    declared = [f.name for f in module.functions if f.is_declaration]
    foreign = [function for function in declared if not function.startswith("llvm.")]
    if foreign:
        raise RuntimeError(f"kernel {name!r} calls {', '.join(foreign)}: write it without")
