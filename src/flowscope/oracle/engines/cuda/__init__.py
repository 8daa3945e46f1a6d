"""The float32 pass on a CUDA device, by kernels of its own."""
