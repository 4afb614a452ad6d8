"""The typed model the compiler works on."""
