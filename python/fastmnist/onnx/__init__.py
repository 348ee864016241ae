"""Networks to ONNX files and back: ``fm.export_onnx`` and ``fm.import_onnx``."""
