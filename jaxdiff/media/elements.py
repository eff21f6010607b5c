"""Chemical elements: their radii and colours in pictures of molecules."""

RADII = {
    "H": 0.31, "He": 0.28, "Li": 1.28, "Be": 0.96, "B": 0.84, "C": 0.76, "N": 0.71, "O": 0.66, "F": 0.57, "Ne": 0.58,
    "Na": 1.66, "Mg": 1.41, "Al": 1.21, "Si": 1.11, "P": 1.07, "S": 1.05, "Cl": 1.02, "Ar": 1.06, "K": 2.03,
    "Ca": 1.76, "Sc": 1.70, "Ti": 1.60, "V": 1.53, "Cr": 1.39, "Mn": 1.39, "Fe": 1.32, "Co": 1.26, "Ni": 1.24,
    "Cu": 1.32, "Zn": 1.22, "Ga": 1.22, "Ge": 1.20, "As": 1.19, "Se": 1.20, "Br": 1.20, "Kr": 1.16, "Rb": 2.20,
    "Sr": 1.95, "Y": 1.90, "Zr": 1.75, "Nb": 1.64, "Mo": 1.54, "Tc": 1.47, "Ru": 1.46, "Rh": 1.42, "Pd": 1.39,
    "Ag": 1.45, "Cd": 1.44, "In": 1.42, "Sn": 1.39, "Sb": 1.39, "Te": 1.38, "I": 1.39, "Xe": 1.40,
}  # fmt: skip
"""Covalent radii in angstrom, of the elements up to xenon (Cordero et al. 2008, table 2)."""
COLOURS = {
    "H": (250, 250, 250), "B": (255, 170, 150), "C": (96, 96, 96), "N": (48, 80, 230), "O": (225, 40, 30),
    "F": (120, 210, 90), "Si": (215, 180, 130), "P": (245, 130, 20), "S": (240, 205, 50), "Cl": (40, 190, 40),
    "Se": (250, 160, 30), "Br": (150, 50, 40), "I": (140, 20, 145),
}  # fmt: skip
"""The usual colours of elements: carbon grey, nitrogen blue, oxygen red, sulphur yellow."""
