"""Other libraries' weights as variables of our networks.

- `tensors`: files of arrays, read without running anything that they hold
- `layout`: the names of another library, and how its arrays become ours and back
- `taesd`: tiny autoencoders
"""
