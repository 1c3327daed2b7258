"""Writing with a trained model, one token after the other."""
