"""The binaries: one a stage, each parses flags and calls the library."""
