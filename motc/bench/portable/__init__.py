"""What measures networks. Imports torch and the standard library alone, and relatively: a pack has these files."""
