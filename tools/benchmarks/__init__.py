"""What `tools.benchmark` measures: a section a module, each with `run(options) -> list of measure.Table`."""
