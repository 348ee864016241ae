"""fastmnist: PyTorch networks of Linear layers, small and fast on a CPU.

::

    data      load_dataset, NeuralNetwork, LeNet300, train, Affine, Elastic, evaluate, summary,
              Metric
    smaller   fuse, quantize (Static, Dynamic, Half), quantize_dynamic, prune (L1Unstructured,
              RandomUnstructured, Structured, CustomMask), unprune, cluster (Clusters), uncluster,
              factorize (LowRank)
    taught    distill (Distillation), teacher
    by steps  prepare, prepare_qat (QAT), convert, fuse_modules
    decide    optimize (Recipe, Student, Finetune, Fuse), search
    look      changes, sensitivity, sparsity, compare (Report, ReportDiff), variants, latency,
              confusion, disagreements, show_weights, size
    run       compile (one native call), save, load, cpu_info, set_num_threads
    others    export_onnx, import_onnx, fastmnist.ao (torch.ao's names), fastmnist.testing (pytest),
              fastmnist.runtime (without torch)

Names are imported when they are first used, so that ``import fastmnist.runtime`` works, and stays
quick, where torch is not installed.
"""

import lazy_loader

# Which module each name is in: __init__.pyi, where type checkers look, too. No package may have the
# name of an export: importing it would hide the function. So packages are nouns: fm.quantize lives
# in quantization/.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

# A star is for names, not for packages of which one wants pytest.
__all__ = [name for name in __all__ if name not in ("ao", "notebook", "runtime", "testing")]
