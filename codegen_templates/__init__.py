"""The building blocks of generated models: real Python, copied whole into `model.py`."""
