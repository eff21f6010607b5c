"""Media: pictures of examples.

- `pictures`: images side by side, points in the plane, PNG files
"""
