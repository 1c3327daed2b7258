"""The ten exhibits: each explains one subject on a real model or run."""
