"""Networks in the ONNX format: export, comparison with PyTorch, execution."""
