"""What a training step takes of each device of a cluster, before there is one. Pure functions of the IR."""
