"""Run saved models where torch is not installed.

>>> import fastmnist.runtime as rt            # doctest: +SKIP
>>> net = rt.load("digits.safetensors", "compiled")   # doctest: +SKIP
>>> net.predict(pixels)                           # doctest: +SKIP

Modules in reading order: ``packing`` (lay out a network for this machine), ``planning`` (choose
each layer's kernel) based on ``measurements``, ``compiled`` (the model that users call),
``explanation`` with ``break_even``, ``cpu``, ``loading``. Nothing here imports torch.
"""

from fastmnist.runtime.compiled import CompiledModel
from fastmnist.runtime.cpu import cpu_info, num_threads, set_num_threads
from fastmnist.runtime.loading import load

__all__ = ["CompiledModel", "cpu_info", "load", "num_threads", "set_num_threads"]
