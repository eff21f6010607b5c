"""Commands.

- `main`: the command `jaxdiff`, which runs a command by its name
- `train`, `sample`, `evaluate`, `ema`, `compile_pod`: one command each; `main` reads the command line and runs it
- `command_line`: turns arguments into typed values, and a mistake into one line on standard error
- `flags`: a flag as a path into a tree of components; `help_text`: every setting with a sentence
- `import_modules`: the flag `--import`
- `streams`: standard streams that are closed or full
- `compilation_cache`: keeps compiled programs on disk
"""
