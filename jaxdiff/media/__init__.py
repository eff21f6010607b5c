"""Media: how examples of any kind are looked at or listened to.

- `showing`: files for examples, chosen by their kind; their writing; and how many of them are not finite
- `pictures`: images side by side, points in the plane, PNG files
- `videos`: animated PNG files, and contact sheets
- `waveforms`: WAV files, and spectrograms
- `points`: rendered point sets and molecules, PLY and XYZ files; `elements`: radii and colours of atoms
- `lettering`: texts in pictures; `pixels`: values as colours
- `metadata`: pictures that say where they come from; `watermark`: an invisible mark in their pixels
"""

from jaxdiff.extras import needed

with needed("jaxdiff.media"):
    from jaxdiff.media.metadata import with_origin
    from jaxdiff.media.pictures import grid, png_bytes, scatter, write_png
    from jaxdiff.media.points import ply_bytes, render, xyz_bytes
    from jaxdiff.media.showing import not_finite, show, write
    from jaxdiff.media.videos import animation, contact_sheet
    from jaxdiff.media.waveforms import spectrogram, spectrogram_sheet, wav_bytes

__all__ = [
    "animation",
    "contact_sheet",
    "grid",
    "not_finite",
    "ply_bytes",
    "png_bytes",
    "render",
    "scatter",
    "show",
    "spectrogram",
    "spectrogram_sheet",
    "wav_bytes",
    "with_origin",
    "write",
    "write_png",
    "xyz_bytes",
]
