"""Media: how examples are looked at.

- `pictures`: images side by side, points in the plane, PNG files
"""
