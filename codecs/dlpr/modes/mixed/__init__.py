"""What modes share that code adaptively: mixed bits, levels of magnitudes, the residual beside a lossy image."""
