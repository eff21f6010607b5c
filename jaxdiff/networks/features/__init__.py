"""Networks that were trained to recognise pictures, and whose hidden states say how alike two pictures are."""
