"""Fits for the tests that start processes of their own: those import this file, and with it no more than a fit needs."""
from genmod_nb.vae import VAE


def models(n=8, **arguments):
    """n seeds of ten shapes, none of them worth more than a second."""
    fixed = dict(max_epochs=20, compile=False, progress=False) | arguments
    return [VAE(encoder=(4 + k,), decoder=(8,), random_state=s, **fixed) for k in range(10) for s in range(n)]
