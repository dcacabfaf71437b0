"""Where hidden states are kept under a name that fits into text: ``store.py``."""
