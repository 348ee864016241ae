"""What of ``torch.ao.quantization.fx`` scripts import."""
