"""Text backbones: their families, tokenizers and networks."""
