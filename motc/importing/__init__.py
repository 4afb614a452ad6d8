"""Checkpoints of Hugging Face: config.json to a spec, and weights under motc's names.

What a configuration means is said once, in `architectures.py`, a table of rows that can be read and written.
"""
