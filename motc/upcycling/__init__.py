"""Weights of a model made of other models' weights, by a map file: upcycling.

copy  *                            # each tower from the dense model
fresh latents                      # the ends of images as a new model has them
zero  image.attention.out          # so that the image tower adds nothing yet
"""
