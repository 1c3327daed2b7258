"""Look into the forward pass of any PyTorch model: attention weights, activations, layers. Nothing of it is changed."""
