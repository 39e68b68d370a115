"""Compiled kernels of feature chains: single precision, channels in multiples of 16.

``layers.kernels.choice`` alone imports this package, and only where Numba is installed. The
kernels are classes like NumPy's, whose layouts, weights and parts they share, so that both can
stand in one chain. ``source`` holds what is compiled, ``library`` compiles and loads it.
"""

from .activation import CompiledActivation
from .direct import DirectConv
from .machine_code import kernels as load
from .winograd import CompiledWinograd

__all__ = ["CompiledActivation", "CompiledWinograd", "DirectConv", "load"]
