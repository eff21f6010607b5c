"""Commands: each file is one command, with a function `main` that reads the command line.

- `train`, `sample`, `evaluate`, `ema`, `compile_pod`: the commands
- `command_line`: arguments into typed values, and one line on standard error for a mistake
- `compilation_cache`: compiled programs kept on disk
"""
